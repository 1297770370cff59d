//! What cannot be finished now is left to a job, which finishes it when it can.

use std::{io::Write as _, time::Duration};

use cairn_e2e::{Cloud, Ready, qcow2};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, GetVmInstanceRequest, HostStatus, StopVmInstanceRequest,
        VmInstance, VmInstanceClient, VmInstanceState as State,
    },
    event::result,
    fault::Fault,
    storage::v1alpha1::{CreateImageRequest, DeleteImageRequest, ImageClient},
};
use cairn_store::StoreError;
use cairn_testkit::wait_until;
use cairn_types::ErrorCode;
use tempfile::NamedTempFile;

use crate::cli::cairn;

const LIMIT: Duration = Duration::from_secs(30);

async fn delete_vm(cloud: &Cloud, uuid: &str) -> Result<VmInstance, Fault> {
    let uuid = uuid.to_owned();
    let vms = VmInstanceClient::new(cloud.mesh());
    let deleting = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    let deleted = result(deleting.await.unwrap()).await;
    deleted.map_err(|status| Fault::from_status(&status))
}

/// A virtual machine whose host is away, and that was deleted then.
async fn deleted_while_its_host_is_away() -> (Cloud, Ready, String, String) {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vm = cloud.create_vm(&ready, "web").await.unwrap().uuid;
    cloud.stop_agents().await;
    let host = &ready.site.hosts[0].uuid;
    cloud.host_in(host, HostStatus::Disconnected).await;
    let fault = delete_vm(&cloud, &vm).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::LeftToGc, "{fault:?}");
    let (_, job) = fault.message.split_once("gc-job ").unwrap();
    let job = job.split(' ').next().unwrap().to_owned();
    (cloud, ready, vm, job)
}

async fn no_jobs(cloud: &Cloud) {
    let jobs = async || cloud.count("gc-job").await;
    wait_until("no job is left", jobs, |jobs| *jobs == 0, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_while_its_host_is_away_goes_when_it_is_back() {
    let (mut cloud, ready, vm, job) = deleted_while_its_host_is_away().await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let left = vms.get_vm_instance(GetVmInstanceRequest { uuid: vm.clone() });
    let left = left.await.unwrap().vm_instance.unwrap();
    assert_eq!(left.state(), State::Destroying);
    // Nobody else destroys it meanwhile.
    let again = delete_vm(&cloud, &vm).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::WrongState);

    // The job is in the database, not in the process.
    cloud.stop_node().await;
    cloud.start_node().await;
    assert_eq!(cloud.count("gc-job").await, 1);
    cloud.start_agents().await;
    no_jobs(&cloud).await;
    cloud.assert_empty(&ready).await;
    let shown = cairn(&cloud, &format!("show operation {job}")).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(!shown.out.contains("Waiting"), "{}", shown.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_tries_and_gives_up_a_job() {
    let (mut cloud, ready, vm, job) = deleted_while_its_host_is_away().await;
    let host = &ready.site.hosts[0].uuid;
    let listed = cairn(&cloud, "query gc-job").await;
    assert!(
        listed.out.contains(&job) && listed.out.contains(&vm),
        "{}",
        listed.out
    );
    let shown = cairn(&cloud, &format!("get gc-job {job}")).await;
    for part in [
        "DeleteVmInstance",
        "destroy-vm-instance",
        "destroy-on-hypervisor, release-instantiation, release-nics, release-volume",
        host,
        "is not connected",
    ] {
        assert!(shown.out.contains(part), "no {part}:\n{}", shown.out);
    }
    let tried = cairn(&cloud, &format!("trigger gc-job {job}")).await;
    assert_ne!(tried.code, 0, "{}", tried.out);
    assert!(tried.err.contains("AGENT_UNREACHABLE"), "{}", tried.err);
    let shown = cairn(&cloud, &format!("get gc-job {job} --json")).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["gcJob"]["attempts"], 1, "{shown}");
    for wrong in ["trigger gc-job x", "get gc-job x"] {
        let refused = cairn(&cloud, wrong).await;
        assert_ne!(refused.code, 0, "{wrong}: {}", refused.out);
    }
    let given_up = cairn(&cloud, &format!("delete gc-job {job}")).await;
    assert_eq!(given_up.code, 0, "{}", given_up.err);
    assert_eq!(cloud.count("gc-job").await, 0);
    let missing = cairn(&cloud, &format!("trigger gc-job {job}")).await;
    assert!(missing.err.contains("NOT_FOUND"), "{}", missing.err);

    // Nobody goes on with it; the doctor tells, and it can be deleted again.
    cloud.start_agents().await;
    cloud.connected(host).await;
    let told = cairn(&cloud, "doctor --fix").await;
    assert_eq!(told.code, 1, "{}", told.out);
    assert!(told.out.contains("delete it again"), "{}", told.out);
    delete_vm(&cloud, &vm).await.unwrap();
    cloud.assert_empty(&ready).await;
}

/// Books that are exact show that it is known what a virtual machine held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_stopped_is_deleted_again_and_gives_nothing_back_twice() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vm = cloud.create_vm(&ready, "web").await.unwrap().uuid;
    let vms = VmInstanceClient::new(cloud.mesh());
    let stop = StopVmInstanceRequest {
        uuid: vm.clone(),
        ..Default::default()
    };
    result(vms.stop_vm_instance(stop).await.unwrap())
        .await
        .unwrap();
    cloud.stop_agents().await;
    let host = &ready.site.hosts[0].uuid;
    cloud.host_in(host, HostStatus::Disconnected).await;
    // Each time it is given up, and as many times as one likes.
    for _ in 0..2 {
        let left = delete_vm(&cloud, &vm).await.unwrap_err();
        assert_eq!(left.code, ErrorCode::LeftToGc, "{left:?}");
        let (_, job) = left.message.split_once("gc-job ").unwrap();
        let job = job.split(' ').next().unwrap();
        let given_up = cairn(&cloud, &format!("delete gc-job {job}")).await;
        assert_eq!(given_up.code, 0, "{}", given_up.err);
    }
    cloud.start_agents().await;
    cloud.connected(host).await;
    delete_vm(&cloud, &vm).await.unwrap();
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_left_on_its_way_is_deleted_again() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&qcow2(1 << 30)).unwrap();
    let images = ImageClient::new(cloud.mesh());
    for status in ["Downloading", "Verifying", "Deleting"] {
        let create = CreateImageRequest {
            name: status.to_owned(),
            backup_storage_uuid: ready.backup_storage.clone(),
            url: format!("file://{}", file.path().display()),
            ..Default::default()
        };
        let created = result(images.create_image(create).await.unwrap()).await;
        let uuid = created.unwrap().uuid;
        let sql = format!("UPDATE image SET status = '{status}' WHERE uuid = '{uuid}'");
        let written = cloud.store().write(move |tx| {
            let sql = sql.clone();
            Box::pin(async move { tx.execute(&sql, Vec::new()).await })
        });
        let changed: Result<u64, StoreError> = written.await;
        assert_eq!(changed.unwrap(), 1);
        let deleting = images.delete_image(DeleteImageRequest { uuid });
        let deleted = result(deleting.await.unwrap()).await;
        assert!(deleted.is_ok(), "{status}: {deleted:?}");
    }
    assert_eq!(cloud.count("image").await, 1);
}
