//! Files on a backup storage: what is on one side only is found, and only what is half made and
//! nobody's is removed.

use std::time::Duration;

use cairn_e2e::examine;
use cairn_proto::{
    doctor::v1alpha1::{
        Finding, FixOutcome,
        Problem::{Differs, Extra, Missing},
    },
    event::result,
    meta::Resource as _,
    operation::v1alpha1::GcJob,
    storage::v1alpha1::{
        BackupStorage, BackupStorageClient, CreateImageRequest, Image, ImageClient,
        ReconnectBackupStorageRequest,
    },
};
use cairn_testkit::wait_until;
use cairn_types::{ErrorCode, Uuid};

use crate::{cli::cairn, doctor::Bed};

const LIMIT: Duration = Duration::from_secs(30);

impl Bed {
    /// The image that there is.
    async fn image(&self) -> Image {
        let image = self.cloud.store().get::<Image>(&self.ready.image).await;
        image.unwrap().unwrap()
    }

    /// Writes a file into the folder of the images, beside the image that is there.
    fn put(&self, beside: &Image, name: &str) -> String {
        let (folder, _) = beside.install_path.rsplit_once('/').unwrap();
        let path = format!("{folder}/{name}");
        self.cloud.sftp.write(&path, b"stray");
        path
    }

    async fn upload(&self, uuid: &str) {
        let request = CreateImageRequest {
            uuid: uuid.to_owned(),
            name: "it comes".to_owned(),
            backup_storage_uuid: self.ready.backup_storage.clone(),
            ..CreateImageRequest::default()
        };
        let images = ImageClient::new(self.cloud.mesh());
        result(images.create_image(request).await.unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backup_storage_has_lost_is_data() {
    let bed = Bed::new().await;
    let image = bed.image().await;
    let content = bed.cloud.sftp.content(&image.install_path);
    bed.cloud.sftp.write(&image.install_path, &content[1..]);
    let other = [("image-file", Differs, "image")];
    bed.leaves("another file", &other, &other).await;
    bed.cloud.sftp.remove(&image.install_path);
    let lost = [("image-file", Missing, "image")];
    let found = bed.finds("no file", &lost).await;
    let place = (&*found[0].depot_type, &found[0].depot_uuid);
    assert_eq!(place, (BackupStorage::NOUN, &bed.ready.backup_storage));
    bed.leaves("no file", &lost, &lost).await;
    assert_eq!(bed.cloud.sftp.files(), <[String; 0]>::default());
    // The copies of hosts are as they were.
    bed.cloud.create_vm(&bed.ready, "another").await.unwrap();
    bed.cloud.sftp.write(&image.install_path, &content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_half_made_on_a_backup_storage_is_removed_and_nothing_else() {
    let bed = Bed::new().await;
    let image = bed.image().await;
    let (foreign, coming) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    bed.upload(&coming).await;
    let kept = [
        image.install_path.clone(),
        bed.put(&image, &foreign),
        bed.put(&image, &format!("{coming}.part")),
        bed.put(&image, "notes.txt"),
    ];
    let gone = [
        bed.put(&image, &format!("{foreign}.part")),
        bed.put(&image, &format!("{}.part", image.uuid)),
    ];
    let strange = [("image-file", Extra, ""), ("file", Extra, "")];
    let half = [("part-file", Extra, ""), ("part-file", Extra, "image")];
    bed.leaves("strays", &[strange, half].concat(), &strange)
        .await;
    let mut kept = kept;
    kept.sort();
    assert_eq!(bed.cloud.sftp.files(), kept, "but for {gone:?}");
    for path in &kept {
        if path.ends_with("notes.txt") || path.ends_with(&foreign) {
            bed.cloud.sftp.remove(path);
        }
    }
    bed.finds("afterwards", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_made_file_that_is_an_uploads_by_now_is_left_alone() {
    let bed = Bed::new().await;
    let image = bed.image().await;
    let wanted = Uuid::now_v7().to_string();
    let path = bed.put(&image, &format!("{wanted}.part"));
    let half = [("part-file", Extra, "")];
    let stale = bed.finds("a stray", &half).await.remove(0);
    bed.upload(&wanted).await;
    for stale in [
        stale.clone(),
        // It never was one.
        Finding {
            kind: "image-file".to_owned(),
            identity: image.install_path.clone(),
            ..stale.clone()
        },
        // A backup storage that there is none of.
        Finding {
            depot_uuid: Uuid::now_v7().to_string(),
            ..stale
        },
    ] {
        let fixed = bed.fix(&stale).await.unwrap();
        assert_eq!(fixed.outcome(), FixOutcome::Gone, "{stale:?}");
        let mut there = [image.install_path.clone(), path.clone()];
        there.sort();
        assert_eq!(bed.cloud.sftp.files(), there);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_storage_that_is_away_is_said_and_waited_for() {
    let mut bed = Bed::new().await;
    let image = bed.image().await;
    bed.put(&image, &format!("{}.part", Uuid::now_v7()));
    let half = [("part-file", Extra, "")];
    let part = bed.finds("a stray", &half).await.remove(0);
    bed.cloud.sftp.pause().await;
    let storage = bed.ready.backup_storage.clone();
    let told = cairn(&bed.cloud, "doctor").await;
    assert_eq!(told.code, 0, "nothing is known to be wrong: {}", told.err);
    for word in ["no findings", "backup-storage", &*storage, "reached"] {
        assert!(told.out.contains(word), "no {word}:\n{}", told.out);
    }
    let examined = examine(&bed.cloud.mesh()).await.unwrap();
    assert_eq!(examined.examined_depot_count, 0);
    assert_eq!(examined.unexamined_depots[0].depot_uuid, storage);

    let left = bed.fix(&part).await.unwrap_err();
    assert_eq!(left.code, ErrorCode::LeftToGc, "{left:?}");
    let jobs: Vec<GcJob> = bed.cloud.store().list("", Vec::new()).await.unwrap();
    assert_eq!(jobs[0].waits_for_type.as_deref(), Some(BackupStorage::NOUN));
    assert_eq!(jobs[0].waits_for_uuid.as_ref(), Some(&storage));
    bed.cloud.stop_node().await;
    bed.cloud.start_node().await;
    bed.cloud.connected(&bed.host.to_string()).await;
    bed.cloud.sftp.resume().await;
    let storages = BackupStorageClient::new(bed.cloud.mesh());
    let request = ReconnectBackupStorageRequest { uuid: storage };
    let reconnecting = storages.reconnect_backup_storage(request).await;
    result(reconnecting.unwrap()).await.unwrap();
    let jobs = async || bed.cloud.count("gc-job").await;
    wait_until("no job is left", jobs, |count| *count == 0, LIMIT).await;
    assert_eq!(bed.cloud.sftp.files(), [image.install_path]);
    bed.finds("afterwards", &[]).await;
}
