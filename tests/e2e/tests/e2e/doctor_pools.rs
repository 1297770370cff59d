//! Files in the folder of a primary storage that was deleted: they are found, and what may be somebody's
//! data stays.

use cairn_proto::{
    compute::v1alpha1::{DeleteVmInstanceRequest, VmInstanceClient},
    doctor::v1alpha1::{FixOutcome, Problem::Extra},
    event::result,
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, CreatePrimaryStorageRequest,
        DeletePrimaryStorageRequest, DetachPrimaryStorageFromClusterRequest, PrimaryStorageClient,
        PrimaryStorageType,
    },
};
use cairn_types::Uuid;

use crate::doctor::Bed;

/// The folder that the storage had.
const POOL: &str = "/var/lib/pool";

impl Bed {
    /// A cloud whose storage is deleted, with all that was on it.
    async fn without_storage() -> Self {
        let bed = Self::new().await;
        let vms = VmInstanceClient::new(bed.cloud.mesh());
        let uuid = bed.vm.uuid.clone();
        let deleting = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
        result(deleting.await.unwrap()).await.unwrap();
        let storages = bed.storages();
        let uuid = bed.ready.primary_storage.clone();
        let detach = DetachPrimaryStorageFromClusterRequest {
            uuid: uuid.clone(),
            cluster_uuid: bed.ready.site.cluster.clone(),
        };
        let detaching = storages.detach_primary_storage_from_cluster(detach).await;
        result(detaching.unwrap()).await.unwrap();
        let deleting = storages.delete_primary_storage(DeletePrimaryStorageRequest { uuid });
        result(deleting.await.unwrap()).await.unwrap();
        bed.finds("nothing is left", &[]).await;
        bed
    }

    fn storages(&self) -> PrimaryStorageClient {
        PrimaryStorageClient::new(self.cloud.mesh())
    }

    /// Puts files there that no command made.
    fn stray(&self, files: &[&str]) {
        let files: Vec<_> = files.iter().map(|it| (format!("{POOL}/{it}"), 1)).collect();
        let change = |state: &mut cairn_simulator::HostState| state.strays.files.extend(files);
        self.cloud.simulator.tamper(self.host, change);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_data_is_removed() {
    let mut bed = Bed::without_storage().await;
    let (image, foreign) = (&bed.ready.image, Uuid::now_v7());
    let half = format!("volumes/{foreign}.qcow2.part");
    let (copy, other) = (
        format!("images/{image}.qcow2"),
        format!("images/{foreign}.qcow2"),
    );
    bed.stray(&[&half, &copy, &other]);
    let of_image = ("image-file", Extra, "image");
    let of_nobody = ("image-file", Extra, "");
    let found = [of_image, of_nobody, ("part-file", Extra, "")];
    bed.leaves("no data", &found, &[]).await;

    // With a volume there, nobody knows any more whether it was made from the copy.
    let volume = format!("volumes/{foreign}.qcow2");
    bed.stray(&[&volume, &copy, "volumes/notes.txt"]);
    let volumes = ("volume-file", Extra, "");
    let found = [of_image, volumes, volumes];
    bed.leaves("data", &found, &found).await;
    bed.cloud.leaves(&["image-file", "volume-file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_a_storages_again_is_judged_as_that() {
    let mut bed = Bed::without_storage().await;
    bed.stray(&[&format!("images/{}.qcow2", bed.ready.image)]);
    let copy = [("image-file", Extra, "image")];
    let stale = bed.finds("a copy", &copy).await.remove(0);
    let storages = bed.storages();
    let create = CreatePrimaryStorageRequest {
        name: "again".to_owned(),
        zone_uuid: bed.ready.site.zone.clone(),
        r#type: PrimaryStorageType::Local.into(),
        path: POOL.to_owned(),
        ..CreatePrimaryStorageRequest::default()
    };
    let creating = storages.create_primary_storage(create).await;
    let uuid = result(creating.unwrap()).await.unwrap().uuid;
    let attach = AttachPrimaryStorageToClusterRequest {
        uuid,
        cluster_uuid: bed.ready.site.cluster.clone(),
    };
    let attaching = storages.attach_primary_storage_to_cluster(attach).await;
    result(attaching.unwrap()).await.unwrap();
    bed.vm = bed.cloud.create_vm(&bed.ready, "again").await.unwrap();
    // It is the copy that the volume was made from.
    let fixed = bed.fix(&stale).await.unwrap();
    assert_eq!(fixed.outcome(), FixOutcome::Gone);
    bed.finds("at rest", &[]).await;
}
