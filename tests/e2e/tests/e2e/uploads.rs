//! Images that are uploaded by the command line: cut and gone on with, wrong, given up.

use cairn_e2e::{Cloud, backup_storage, qcow2};
use cairn_proto::{
    fault::Fault,
    storage::v1alpha1::{ImageClient, UploadImageChunkRequest},
};
use cairn_types::ErrorCode;
use serde_json::Value;

use crate::cli::{Ran, cairn};

const MIB: usize = 1 << 20;

struct Bed {
    cloud: Cloud,
    storage: String,
    folder: tempfile::TempDir,
    content: Vec<u8>,
}

impl Bed {
    async fn new() -> Self {
        let cloud = Cloud::start().await;
        let storage = backup_storage(&cloud.mesh(), &cloud.sftp, &cloud.data_directory()).await;
        let mut content = qcow2(3 << 30);
        content.extend((0..7 * MIB + 4711).map(|n| (n * 31 / 7) as u8));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk"), &content).unwrap();
        Self {
            cloud,
            storage,
            folder,
            content,
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn create(&self, file: &str) -> Ran {
        let line = format!(
            "create image --name x --backup-storage-uuid {} --json {file}",
            self.storage
        );
        cairn(&self.cloud, &line).await
    }

    async fn upload(&self, image: &str, name: &str) -> Ran {
        let file = self.file(name);
        cairn(
            &self.cloud,
            &format!("image upload {image} --file {file} --json"),
        )
        .await
    }

    /// An image that waits for its file.
    async fn empty(&self) -> String {
        let image = json(&self.create("").await.out);
        assert_eq!(image["status"], "IMAGE_STATUS_UPLOADING");
        image["uuid"].as_str().unwrap().to_owned()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_uploaded_with_its_image() {
    let bed = Bed::new().await;
    let ran = bed.create(&format!("--file {}", bed.file("disk"))).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let image = json(&ran.out);
    assert_eq!(image["status"], "IMAGE_STATUS_READY");
    assert_eq!(image["sizeBytes"], (3_u64 << 30).to_string());
    assert_eq!(image["fileSizeBytes"], bed.content.len().to_string());
    let path = image["installPath"].as_str().unwrap();
    assert_eq!(bed.cloud.sftp.files(), [path]);
    assert_eq!(bed.cloud.sftp.content(path), bed.content);
    // One connection for the pieces, and few besides.
    assert!(bed.cloud.sftp.opened() < 10, "{}", bed.cloud.sftp.opened());

    let uuid = image["uuid"].as_str().unwrap();
    let again = bed.upload(uuid, "disk").await;
    assert_eq!(again.code, 1);
    assert_eq!(json(&again.err)["code"], "WRONG_STATE");
    let missing = bed.create(&format!("--file {}", bed.file("nothing"))).await;
    assert_eq!(missing.code, 2, "{}", missing.err);
    // Nothing was made for a file that is not there.
    assert_eq!(bed.cloud.count("image").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_upload_goes_on_where_it_was() {
    let mut bed = Bed::new().await;
    bed.cloud.sftp.cut_after(3 * MIB as u64 + 1000);
    let ran = bed.create(&format!("--file {}", bed.file("disk"))).await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    let error = json(&ran.err);
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    let resume = error["resume"].as_str().unwrap();
    assert!(resume.starts_with("`cairn image upload "), "{resume}");
    let image = resume.split(' ').nth(3).unwrap().to_owned();
    let part = bed.cloud.sftp.files();
    assert!(part.len() == 1 && part[0].ends_with(".part"), "{part:?}");
    let there = bed.cloud.sftp.content(&part[0]).len();
    assert!((2 * MIB..4 * MIB).contains(&there), "{there}");

    // A full disk keeps what was there before.
    bed.cloud.sftp.full_after(MIB as u64 + 100_000);
    let full = bed.upload(&image, "disk").await;
    assert_eq!(json(&full.err)["code"], "OUT_OF_CAPACITY", "{}", full.err);
    bed.cloud.sftp.full_after(u64::MAX);

    // Another file cannot be what was begun.
    std::fs::write(bed.file("short"), b"short").unwrap();
    let other = bed.upload(&image, "short").await;
    assert_eq!(json(&other.err)["code"], "INVALID_ARGUMENT");

    // A node that starts anew knows as much.
    bed.cloud.stop_node().await;
    bed.cloud.start_node().await;
    let ran = bed.upload(&image, "disk").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let path = json(&ran.out)["installPath"].as_str().unwrap().to_owned();
    assert_eq!(bed.cloud.sftp.files(), [&*path]);
    assert_eq!(bed.cloud.sftp.content(&path), bed.content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_wrong_is_removed_and_may_come_again() {
    let bed = Bed::new().await;
    let image = bed.empty().await;
    // Another beginning of the same length: only the checksum tells.
    let mut other = bed.content.clone();
    other[MIB] ^= 1;
    let images = ImageClient::new(bed.cloud.mesh());
    let chunk = |offset: usize, data: &[u8]| UploadImageChunkRequest {
        uuid: image.clone(),
        offset: offset as u64,
        data: data.to_vec().into(),
    };
    let answer = images
        .upload_image_chunk(chunk(0, &other[..MIB]))
        .await
        .unwrap();
    assert_eq!(answer.next_offset, MIB as u64);
    for offset in [0, MIB - 1, MIB + 1] {
        let refused = images
            .upload_image_chunk(chunk(offset, b"x"))
            .await
            .unwrap_err();
        let fault = Fault::from_status(&refused);
        let expected = format!("is {offset}; the upload goes on at {MIB}");
        assert_eq!(fault.fields, [("offset".to_owned(), expected)]);
    }
    images
        .upload_image_chunk(chunk(MIB, &other[MIB..2 * MIB]))
        .await
        .unwrap();

    let ran = bed.upload(&image, "disk").await;
    assert_eq!(ran.code, 1);
    let error = json(&ran.err);
    assert_eq!(error["code"], "INVALID_ARGUMENT", "{error}");
    let problem = error["fields"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("is removed, upload it again"), "{error}");
    assert_eq!(bed.cloud.sftp.files(), Vec::<String>::new());
    assert_eq!(bed.cloud.count("image").await, 1);
    let ran = bed.upload(&image, "disk").await;
    assert_eq!(ran.code, 0, "{}", ran.err);

    // What is no image either.
    let image = bed.empty().await;
    std::fs::write(bed.file("packed"), b"\x1f\x8b\x08\0and so on").unwrap();
    let ran = bed.upload(&image, "packed").await;
    assert!(ran.err.contains("gzip; unpack it first"), "{}", ran.err);
    assert_eq!(bed.cloud.sftp.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_ends_is_deleted() {
    let bed = Bed::new().await;
    let image = bed.empty().await;
    let images = ImageClient::new(bed.cloud.mesh());
    let chunk = UploadImageChunkRequest {
        uuid: image.clone(),
        offset: 0,
        data: vec![1; 1000].into(),
    };
    images.upload_image_chunk(chunk.clone()).await.unwrap();
    assert_eq!(bed.cloud.sftp.files().len(), 1);
    let ran = cairn(&bed.cloud, &format!("delete image {image}")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(bed.cloud.sftp.files(), Vec::<String>::new());
    let refused = images.upload_image_chunk(chunk).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).code, ErrorCode::NotFound);
    assert_eq!(bed.cloud.sftp.files(), Vec::<String>::new());
}
