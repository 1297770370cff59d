//! A node and OpenSSH's own server: what the server in this process may do otherwise.

use std::{fs, io::Write as _, path::Path};

use cairn_e2e::Cloud;
use cairn_proto::{
    event::result,
    fault::Fault,
    storage::v1alpha1::{
        BackupStorage, BackupStorageClient, BackupStorageType, CreateBackupStorageRequest,
        CreateImageRequest, DeleteImageRequest, Image, ImageClient, UpdateBackupStorageRequest,
    },
};
use cairn_testkit::{Sshd, wait_until};
use cairn_types::ErrorCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::cli::cairn;

const MIB: usize = 1 << 20;

async fn create(cloud: &Cloud, sshd: &Sshd, path: &Path) -> Result<BackupStorage, Fault> {
    let storages = BackupStorageClient::new(cloud.mesh());
    let request = CreateBackupStorageRequest {
        name: "openssh".to_owned(),
        r#type: BackupStorageType::Sftp.into(),
        address: sshd.address(),
        username: sshd.username().to_owned(),
        path: path.display().to_string(),
        ..Default::default()
    };
    let created = async { result(storages.create_backup_storage(request).await?).await };
    created.await.map_err(|status| Fault::from_status(&status))
}

async fn image(cloud: &Cloud, request: CreateImageRequest) -> Result<Image, Fault> {
    let images = ImageClient::new(cloud.mesh());
    let created = async { result(images.create_image(request).await?).await };
    created.await.map_err(|status| Fault::from_status(&status))
}

fn files(sshd: &Sshd) -> Vec<String> {
    let entries = fs::read_dir(sshd.files().join("images")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_kept_on_openssh() {
    let cloud = Cloud::start().await;
    let mut sshd = Sshd::start().await;
    let public = fs::read_to_string(cloud.data_directory().join("ssh.pub")).unwrap();
    let fault = create(&cloud, &sshd, &sshd.files()).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::StorageFailed);
    assert!(fault.message.contains(public.trim()), "{fault:?}");
    sshd.authorize(&public);
    let fault = create(&cloud, &sshd, &sshd.files().join("none"))
        .await
        .unwrap_err();
    assert!(fault.message.contains("there is no "), "{fault:?}");
    let storage = create(&cloud, &sshd, &sshd.files()).await.unwrap();
    assert_eq!(storage.host_key, sshd.host_key());
    assert!(storage.total_bytes() > 0);

    let content: Vec<u8> = (0..9 * MIB + 13).map(|n| (n * 31 / 7) as u8).collect();
    let mut local = tempfile::NamedTempFile::new().unwrap();
    local.write_all(&content).unwrap();
    let request = |url: String| CreateImageRequest {
        name: "raw".to_owned(),
        url,
        backup_storage_uuid: storage.uuid.clone(),
        ..Default::default()
    };
    let local_url = format!("file://{}", local.path().display());
    let made = image(&cloud, request(local_url.clone())).await.unwrap();
    assert_eq!(fs::read(&made.install_path).unwrap(), content);
    // It is listed there as anywhere.
    let stray = Path::new(&made.install_path).with_extension("part");
    fs::write(&stray, "half made").unwrap();
    let fixed = cairn(&cloud, "doctor --fix").await;
    assert_eq!(fixed.code, 0, "{}", fixed.out);
    let line = format!("part-file {}: fixed", stray.display());
    assert!(fixed.out.contains(&line), "{}", fixed.out);
    assert_eq!(files(&sshd), [&*made.uuid]);
    let wrong = CreateImageRequest {
        sha256: "ab".repeat(32),
        ..request(local_url.clone())
    };
    let fault = image(&cloud, wrong).await.unwrap_err();
    assert_eq!(fault.fields[0].0, "sha256", "{fault:?}");
    assert_eq!(files(&sshd), [&*made.uuid]);

    // Uploaded, over connections that end in between.
    let line = format!(
        "create image --name up --backup-storage-uuid {} --json --file {}",
        storage.uuid,
        local.path().display()
    );
    let ran = cairn(&cloud, &line).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let uploaded: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(uploaded["sha256"], *made.sha256);
    assert_eq!(files(&sshd).len(), 2);

    // Gone in the middle: a source that gives half of it holds the download there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!("http://{}/", listener.local_addr().unwrap());
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&content[..4 * MIB]).await.unwrap();
        let written = || async {
            let parts = files(&sshd)
                .into_iter()
                .filter(|name| name.ends_with(".part"));
            let sizes = parts.map(|part| {
                let path = sshd.files().join("images").join(part);
                fs::metadata(path).map_or(0, |file| file.len())
            });
            sizes.sum::<u64>()
        };
        let limit = std::time::Duration::from_secs(30);
        wait_until(
            "half is there",
            written,
            |size| *size >= 3 * MIB as u64,
            limit,
        )
        .await;
        sshd.pause().await;
        // Who is not heard any more need not be sent all of it.
        let _ = stream.write_all(&content[4 * MIB..]).await;
        sshd.resume().await;
    };
    let (ended, ()) = tokio::join!(image(&cloud, request(slow)), source);
    let fault = ended.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault:?}");
    assert_eq!(fault.rolled_back, ["download", "create-row"], "{fault:?}");
    assert_eq!(files(&sshd).len(), 2);

    // Another server at its place.
    let other = Sshd::start().await;
    other.authorize(&public);
    let moved = UpdateBackupStorageRequest {
        uuid: storage.uuid.clone(),
        address: Some(other.address()),
        ..Default::default()
    };
    let storages = BackupStorageClient::new(cloud.mesh());
    let moved = storages.update_backup_storage(moved).await.unwrap();
    let fault = Fault::from_status(&result(moved).await.unwrap_err());
    assert!(
        fault.message.contains("shows another host key"),
        "{fault:?}"
    );

    let images = ImageClient::new(cloud.mesh());
    for uuid in files(&sshd) {
        let deleted = images
            .delete_image(DeleteImageRequest { uuid })
            .await
            .unwrap();
        result(deleted).await.unwrap();
    }
    assert_eq!(files(&sshd), Vec::<String>::new());
}
