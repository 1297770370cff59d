//! Images: from a URL to a backup storage, and gone again; and what fails leaves nothing.

use std::{io::Write as _, path::Path};

use cairn_e2e::{Cloud, IMAGES, backup_storage, qcow2};
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    event::result,
    fault::Fault,
    storage::v1alpha1::{
        BackupStorageClient, CreateImageRequest, DeleteBackupStorageRequest, DeleteImageRequest,
        Image, ImageClient, ImageFormat, ImageStatus, UpdateBackupStorageRequest,
    },
};
use cairn_types::ErrorCode;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

const GIB: u64 = 1 << 30;
const MIB: usize = 1 << 20;

/// A file of the node's machine.
fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A server that gives each caller this, and then hangs up; it is there as long as the set.
async fn http(answer: Vec<u8>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/image", listener.local_addr().unwrap());
    let mut set = JoinSet::new();
    set.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            // Who has heard enough hangs up first.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, set)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

fn request(backup_storage: &str, url: String) -> CreateImageRequest {
    CreateImageRequest {
        name: "debian".to_owned(),
        url,
        backup_storage_uuid: backup_storage.to_owned(),
        ..Default::default()
    }
}

async fn create(cloud: &Cloud, request: CreateImageRequest) -> Result<Image, Fault> {
    let images = ImageClient::new(cloud.mesh());
    let created = async { result(images.create_image(request).await?).await };
    created.await.map_err(|status| Fault::from_status(&status))
}

async fn delete(cloud: &Cloud, uuid: &str) -> Result<Image, Fault> {
    let (images, uuid) = (ImageClient::new(cloud.mesh()), uuid.to_owned());
    let deleted = async { result(images.delete_image(DeleteImageRequest { uuid }).await?).await };
    deleted.await.map_err(|status| Fault::from_status(&status))
}

async fn cloud() -> (Cloud, String) {
    let cloud = Cloud::start().await;
    let storage = backup_storage(&cloud.mesh(), &cloud.sftp, &cloud.data_directory()).await;
    (cloud, storage)
}

async fn assert_nothing_left(cloud: &Cloud, what: &str) {
    assert_eq!(cloud.count("image").await, 0, "{what}: rows");
    assert_eq!(cloud.sftp.files(), Vec::<String>::new(), "{what}: files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_comes_from_a_url_and_goes_again() {
    let (cloud, storage) = cloud().await;
    let content = qcow2(5 * GIB);
    let local = file(&content);
    let length = format!("200 OK\r\ncontent-length: {}", content.len());
    let (sized, _one) = http(answer(&length, &content)).await;
    let (unsized_, _two) = http(answer("200 OK", &content)).await;
    let mut digests = Vec::new();
    for url in [url(local.path()), sized, unsized_] {
        let image = create(&cloud, request(&storage, url.clone()))
            .await
            .unwrap();
        assert_eq!(image.status(), ImageStatus::Ready, "{url}");
        assert_eq!(image.format(), ImageFormat::Qcow2);
        assert_eq!(image.state(), ResourceState::Enabled);
        assert_eq!(
            (image.size_bytes, image.file_size_bytes),
            (5 * GIB, content.len() as u64)
        );
        assert_eq!(
            image.install_path,
            format!("{IMAGES}/images/{}", image.uuid)
        );
        assert_eq!(cloud.sftp.files(), [&*image.install_path]);
        assert_eq!(cloud.sftp.content(&image.install_path), content);
        digests.push(image.sha256.clone());

        let storages = BackupStorageClient::new(cloud.mesh());
        let delete_storage = DeleteBackupStorageRequest {
            uuid: storage.clone(),
        };
        let refused = storages
            .delete_backup_storage(delete_storage)
            .await
            .unwrap();
        let refused = Fault::from_status(&result(refused).await.unwrap_err());
        assert_eq!(refused.code, ErrorCode::InUse, "{refused:?}");

        delete(&cloud, &image.uuid).await.unwrap();
        assert_nothing_left(&cloud, &url).await;
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));

    // With the right checksum, and a disk that is larger than the image.
    let right = CreateImageRequest {
        sha256: digests[0].to_uppercase(),
        size_bytes: Some(7 * GIB),
        ..request(&storage, url(local.path()))
    };
    let image = create(&cloud, right).await.unwrap();
    assert_eq!((image.size_bytes, &image.sha256), (7 * GIB, &digests[0]));
    // What is no qcow2 is a disk as it is.
    let raw = file(&vec![7; 3 * MIB + 1]);
    let image = create(&cloud, request(&storage, url(raw.path())))
        .await
        .unwrap();
    assert_eq!(image.format(), ImageFormat::Raw);
    assert_eq!(image.size_bytes, 3 * MIB as u64 + 512);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_url_or_its_file_is_said_and_leaves_nothing() {
    let (cloud, storage) = cloud().await;
    let good = file(&qcow2(5 * GIB));
    let packed = file(b"\x1f\x8b\x08\0and so on");
    let folder = tempfile::tempdir().unwrap();
    let key = cloud.data_directory().join("ca.key");
    let cut = answer("200 OK\r\ncontent-length: 9000000", &[0; MIB]);
    let (cut, _one) = http(cut).await;
    let (absent, _two) = http(answer("404 Not Found\r\ncontent-length: 0", b"")).await;
    let wrong_sum = CreateImageRequest {
        sha256: "ab".repeat(32),
        ..request(&storage, url(good.path()))
    };
    let too_small = CreateImageRequest {
        size_bytes: Some(4 * GIB),
        ..request(&storage, url(good.path()))
    };
    let at = |url: String| request(&storage, url);
    for (request, code, part) in [
        (wrong_sum, ErrorCode::InvalidArgument, "sha256"),
        (too_small, ErrorCode::InvalidArgument, "size_bytes"),
        (
            at(url(packed.path())),
            ErrorCode::InvalidArgument,
            "gzip; unpack it first",
        ),
        (
            at(url(folder.path())),
            ErrorCode::InvalidArgument,
            "no plain file",
        ),
        (
            at(url(&folder.path().join("x"))),
            ErrorCode::InvalidArgument,
            "No such file",
        ),
        (
            at(url(&key)),
            ErrorCode::InvalidArgument,
            "of the node itself",
        ),
        (at(absent), ErrorCode::InvalidArgument, "404"),
        (at(cut), ErrorCode::Unavailable, "fetch http://127.0.0.1"),
        (
            at("http://127.0.0.1:1/".into()),
            ErrorCode::Unavailable,
            "fetch http://127.0.0.1:1/",
        ),
    ] {
        let what = request.url.clone();
        let fault = create(&cloud, request).await.unwrap_err();
        assert_eq!(fault.code, code, "{what}: {fault:?}");
        let text = format!("{} {:?}", fault.message, fault.fields);
        assert!(text.contains(part), "{what}: {fault:?}");
        assert_eq!(fault.rolled_back, ["download", "create-row"], "{what}");
        assert_nothing_left(&cloud, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_in_the_middle_keeps_nothing() {
    let (mut cloud, storage) = cloud().await;
    let large = file(&vec![7; 8 * MIB]);
    cloud.sftp.cut_after(3 * MIB as u64);
    let fault = create(&cloud, request(&storage, url(large.path())))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault:?}");
    assert_nothing_left(&cloud, "cut").await;

    // Known before it begins, or found out on the way.
    cloud.sftp.full_after(3 * MIB as u64);
    let (unsized_, _one) = http(answer("200 OK", &vec![7; 8 * MIB])).await;
    for url in [url(large.path()), unsized_] {
        let fault = create(&cloud, request(&storage, url)).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::OutOfCapacity, "{fault:?}");
        assert_nothing_left(&cloud, "full").await;
        cloud.sftp.full_after(MIB as u64);
    }
    cloud.sftp.full_after(u64::MAX);

    let image = create(&cloud, request(&storage, url(large.path())))
        .await
        .unwrap();
    cloud.sftp.pause().await;
    let fault = delete(&cloud, &image.uuid).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault:?}");
    assert!(fault.message.contains("cannot be reached"), "{fault:?}");
    let fault = create(&cloud, request(&storage, url(large.path())))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault:?}");
    cloud.sftp.resume().await;
    // The image is as it was.
    assert_eq!(cloud.count("image").await, 1);
    assert_eq!(cloud.sftp.files(), [&*image.install_path]);
    delete(&cloud, &image.uuid).await.unwrap();
    assert_nothing_left(&cloud, "deleted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_storage_takes_no_image() {
    let (cloud, storage) = cloud().await;
    let disable = UpdateBackupStorageRequest {
        uuid: storage.clone(),
        state: Some(ResourceState::Disabled.into()),
        ..Default::default()
    };
    let storages = BackupStorageClient::new(cloud.mesh());
    result(storages.update_backup_storage(disable).await.unwrap())
        .await
        .unwrap();
    let local = file(&qcow2(GIB));
    let fault = create(&cloud, request(&storage, url(local.path())))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);
    let expected = format!("backup storage {storage} is disabled; enable it");
    assert_eq!(fault.message, expected);
    assert_nothing_left(&cloud, "disabled").await;
}
