//! Copies of images on hosts: with what they are kept for they go, at once or by a job, and one that is
//! wanted again stays.

use std::time::Duration;

use cairn_agent_protocol::CommandErrorCode;
use cairn_e2e::{Cloud, Ready, examine};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteHostRequest, DeleteVmInstanceRequest, HostClient, HostState, HostStatus,
        StopVmInstanceRequest, VmInstanceClient,
    },
    event::result,
    fault::Fault,
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, DeletePrimaryStorageRequest,
        DetachPrimaryStorageFromClusterRequest, PrimaryStorageClient,
    },
};
use cairn_simulator::{Fault as OnHost, FaultEffect};
use cairn_store::StoreError;
use cairn_testkit::wait_until;
use cairn_types::ErrorCode;

use crate::cli::cairn;

const LIMIT: Duration = Duration::from_secs(30);

struct Bed {
    cloud: Cloud,
    ready: Ready,
    host: String,
}

impl Bed {
    /// A cloud of one host, which has a copy of the image, and a virtual machine that is stopped.
    async fn new() -> (Self, String) {
        let cloud = Cloud::start().await;
        let ready = cloud.ready(1).await;
        let vm = cloud.create_vm(&ready, "web").await.unwrap().uuid;
        let stop = StopVmInstanceRequest {
            uuid: vm.clone(),
            ..Default::default()
        };
        let vms = VmInstanceClient::new(cloud.mesh());
        result(vms.stop_vm_instance(stop).await.unwrap())
            .await
            .unwrap();
        let host = ready.site.hosts[0].uuid.clone();
        (Self { cloud, ready, host }, vm)
    }

    /// How many copies the host has.
    fn copies(&self) -> usize {
        let hosts = self.cloud.simulator.hosts().into_iter();
        let mut hosts = hosts.filter(|it| it.host.to_string() == self.host);
        hosts.next().unwrap().images.len()
    }

    async fn detach(&self) -> Result<(), Fault> {
        let storages = PrimaryStorageClient::new(self.cloud.mesh());
        let request = DetachPrimaryStorageFromClusterRequest {
            uuid: self.ready.primary_storage.clone(),
            cluster_uuid: self.ready.site.cluster.clone(),
        };
        let detaching = storages.detach_primary_storage_from_cluster(request).await;
        let detached = result(detaching.unwrap()).await;
        detached
            .map(drop)
            .map_err(|status| Fault::from_status(&status))
    }

    async fn attach(&self) {
        let storages = PrimaryStorageClient::new(self.cloud.mesh());
        let request = AttachPrimaryStorageToClusterRequest {
            uuid: self.ready.primary_storage.clone(),
            cluster_uuid: self.ready.site.cluster.clone(),
        };
        let attaching = storages.attach_primary_storage_to_cluster(request).await;
        result(attaching.unwrap()).await.unwrap();
    }

    async fn delete(&self, vm: &str) -> Result<(), Fault> {
        let vms = VmInstanceClient::new(self.cloud.mesh());
        let uuid = vm.to_owned();
        let deleting = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
        let deleted = result(deleting.await.unwrap()).await;
        deleted
            .map(drop)
            .map_err(|status| Fault::from_status(&status))
    }

    /// From now on no host removes a copy, until what is returned is released.
    fn no_copy_goes(&self) -> u64 {
        self.cloud.simulator.inject(OnHost {
            command: Some("delete-image".into()),
            ..OnHost::new(FaultEffect::Fail {
                code: CommandErrorCode::Failed,
                message: "no such luck".into(),
            })
        })
    }

    /// The job finds what it has to do when no process is left that knew.
    async fn job_is_done_by_another_process(&mut self, fault: &Fault) {
        assert_eq!(fault.code, ErrorCode::LeftToGc, "{fault:?}");
        assert!(fault.message.contains("no such luck"), "{}", fault.message);
        let (_, job) = fault.message.split_once("gc-job ").unwrap();
        let job = job.split(' ').next().unwrap();
        self.cloud.kill_node().await;
        self.cloud.start_node().await;
        self.cloud.connected(&self.host).await;
        let done = cairn(&self.cloud, &format!("trigger gc-job {job}")).await;
        assert_eq!(done.code, 0, "{}", done.err);
        assert_eq!(self.cloud.count("gc-job").await, 0);
    }

    async fn no_copy_is_left(&self) {
        let copies = async || (self.copies(), self.cloud.count("gc-job").await);
        let none = |left: &(usize, u64)| *left == (0, 0);
        wait_until("no copy is left", copies, none, LIMIT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_volume_of_a_storage_that_is_detached_takes_the_copies_along() {
    let (mut bed, vm) = Bed::new().await;
    bed.detach().await.unwrap();
    assert_eq!(bed.copies(), 1, "the volume is made from it");
    let stuck = bed.no_copy_goes();
    let left = bed.delete(&vm).await.unwrap_err();
    // As long as the copy is there, somebody knows of it.
    assert_eq!((bed.cloud.count("volume").await, bed.copies()), (1, 1));
    assert_eq!(bed.cloud.count("image-cache").await, 0);
    bed.cloud.simulator.release(stuck);
    bed.job_is_done_by_another_process(&left).await;
    assert_eq!(bed.copies(), 0);
    for noun in ["vm-instance", "volume", "primary-storage-capacity"] {
        assert_eq!(bed.cloud.count(noun).await, 0, "{noun}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_detached_leaves_no_copies() {
    let (mut bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    let stuck = bed.no_copy_goes();
    let left = bed.detach().await.unwrap_err();
    assert_eq!(bed.cloud.count("primary-storage-attachment").await, 0);
    assert_eq!(bed.copies(), 1);
    bed.cloud.simulator.release(stuck);
    bed.job_is_done_by_another_process(&left).await;
    assert_eq!(bed.copies(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_back_loses_the_copies_of_a_storage_that_was_detached() {
    let (mut bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    bed.cloud.stop_agents().await;
    bed.cloud.host_in(&bed.host, HostStatus::Disconnected).await;
    bed.detach().await.unwrap();
    bed.cloud.start_agents().await;
    bed.no_copy_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_back_loses_the_copies_of_a_storage_that_was_deleted() {
    let (mut bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    bed.cloud.stop_agents().await;
    bed.cloud.host_in(&bed.host, HostStatus::Disconnected).await;
    bed.detach().await.unwrap();
    let storages = PrimaryStorageClient::new(bed.cloud.mesh());
    let uuid = bed.ready.primary_storage.clone();
    let deleting = storages.delete_primary_storage(DeletePrimaryStorageRequest { uuid });
    result(deleting.await.unwrap()).await.unwrap();
    assert_eq!(bed.copies(), 1);
    bed.cloud.start_agents().await;
    bed.no_copy_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_goes_with_a_volume_is_no_stray() {
    let (bed, vm) = Bed::new().await;
    bed.detach().await.unwrap();
    let stuck = bed.no_copy_goes();
    let left = bed.delete(&vm).await.unwrap_err();
    let found = async || examine(&bed.cloud.mesh()).await.unwrap();
    let under_job = found().await;
    assert_eq!(under_job.findings, []);
    assert!(under_job.unjudged_count > 0, "{under_job:?}");
    // Given up, it is the virtual machine that is to be deleted again, and the copy goes with it.
    let (_, job) = left.message.split_once("gc-job ").unwrap();
    let job = job.split(' ').next().unwrap();
    let given_up = cairn(&bed.cloud, &format!("delete gc-job {job}")).await;
    assert_eq!(given_up.code, 0, "{}", given_up.err);
    let kinds = found().await.findings;
    let mut kinds: Vec<_> = kinds.iter().map(|it| &*it.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["vm-state", "volume-file"]);
    assert_eq!(bed.copies(), 1);
    bed.cloud.simulator.release(stuck);
    bed.delete(&vm).await.unwrap();
    assert_eq!(bed.copies(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_of_a_copy_without_its_volume_is_cleared() {
    let (bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    bed.detach().await.unwrap();
    let insert = "INSERT INTO volume_copy (cache_uuid, volume_uuid, image_uuid, install_path) \
                  VALUES ('c', '01890a5d-ac96-774b-bcce-b302099a8057', 'i', '/pool/images/i.qcow2')";
    let noted = bed
        .cloud
        .store()
        .write(move |tx| Box::pin(async move { tx.execute(insert, Vec::new()).await }));
    assert_eq!(noted.await.map_err(|error: StoreError| error).unwrap(), 1);
    let fixed = cairn(&bed.cloud, "doctor --fix").await;
    assert_eq!(fixed.code, 0, "{}", fixed.out);
    assert!(fixed.out.contains("copy-note c: fixed"), "{}", fixed.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_wanted_again_stays() {
    let (mut bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    let stuck = bed.no_copy_goes();
    let left = bed.detach().await.unwrap_err();
    bed.attach().await;
    bed.cloud.create_vm(&bed.ready, "again").await.unwrap();
    bed.cloud.simulator.release(stuck);
    bed.job_is_done_by_another_process(&left).await;
    assert_eq!(bed.copies(), 1);
    bed.cloud.create_vm(&bed.ready, "another").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_keeps_a_copy_stays_and_one_that_goes_keeps_none() {
    let (bed, vm) = Bed::new().await;
    bed.delete(&vm).await.unwrap();
    let delete = async || {
        let hosts = HostClient::new(bed.cloud.mesh());
        let uuid = bed.host.clone();
        let deleting = hosts.delete_host(DeleteHostRequest { uuid });
        let deleted = result(deleting.await.unwrap()).await;
        deleted.map_err(|status| Fault::from_status(&status))
    };
    let stuck = bed.no_copy_goes();
    let refused = delete().await.unwrap_err();
    assert!(
        refused.message.contains("no such luck"),
        "{}",
        refused.message
    );
    let host = bed.cloud.host(&bed.host).await;
    assert_eq!(host.state(), HostState::Enabled);
    // It is as it was, and what it has is known.
    assert_eq!((bed.copies(), bed.cloud.count("image-cache").await), (1, 1));
    let vm = bed.cloud.create_vm(&bed.ready, "again").await.unwrap().uuid;
    bed.delete(&vm).await.unwrap();
    bed.cloud.simulator.release(stuck);
    delete().await.unwrap();
    assert_eq!((bed.copies(), bed.cloud.count("image-cache").await), (0, 0));
}
