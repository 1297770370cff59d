//! A node that is killed while a real virtual machine is being made, and an agent that is killed
//! whatever it does to one.

use cairn_proto::{
    compute::v1alpha1::{
        CreateVmInstanceRequest, DeleteVmInstanceRequest, QueryVmInstanceRequest,
        StartVmInstanceRequest, StopVmInstanceRequest, VmInstanceState as State,
    },
    event::result,
};
use cairn_types::Uuid;
use tonic::Status;

use crate::{cloud::RealCloud, guest::Guest, host::RealHost};

/// After the machine's process is there, and before the node knows.
const PLACE: &str = "AfterEffect create-vm-instance create-on-hypervisor run";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_ends_once_whatever_becomes_of_the_node() {
    let mut cloud = RealCloud::start(1).await;
    cloud.kill_node().await;
    cloud.start_node(Some(PLACE)).await;
    cloud.connected(0).await;
    let vms = cloud.vms();
    let uuid = Uuid::now_v7().to_string();
    let request = CreateVmInstanceRequest {
        uuid: uuid.clone(),
        ..cloud.ready.vm_request("web")
    };
    let mut events = vms.create_vm_instance(request).await.unwrap();
    // Accepted: from here on it ends, whoever listens.
    futures::StreamExt::next(&mut events)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(cloud.node().held().await.held, PLACE);
    let pid = cloud.hosts[0].pid_of(&uuid);
    assert!(pid.is_some(), "the effect took place");
    cloud.kill_node().await;

    cloud.start_node(None).await;
    cloud.seen(&uuid, State::Running).await;
    assert_eq!(cloud.hosts[0].pid_of(&uuid), pid, "it is the same");
    cloud.assert_books(&[1]).await;
    let vms = cloud.vms();
    let all = vms.query_vm_instance(QueryVmInstanceRequest::default());
    assert_eq!(all.await.unwrap().vm_instances.len(), 1);
    assert_eq!(cloud.hosts[0].files(), (1, 1));

    cloud.delete(&uuid).await;
    cloud.assert_books(&[0]).await;
    assert_eq!(cloud.hosts[0].files(), (0, 0));
}

/// Has an operation begin, and the host's agent be killed at a place; the operation's events.
async fn killed_at<T>(
    host: &mut RealHost,
    place: &str,
    call: impl Future<Output = Result<T, Status>>,
) -> T {
    host.hold_agent(place).await;
    let events = call.await.unwrap();
    host.kill_agent_at(place).await;
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_the_agent_each_thing_is_done_once() {
    // No pings: what the node knows of a new agent is what that says.
    let mut cloud = RealCloud::pinging(1, 60_000).await;
    let (vms, uuid) = (cloud.vms(), Uuid::now_v7().to_string());
    let request = CreateVmInstanceRequest {
        uuid: uuid.clone(),
        ..cloud.ready.vm_request("web")
    };
    let create = vms.create_vm_instance(request);
    let created = killed_at(&mut cloud.hosts[0], "AfterEffect start-vm", create).await;
    let pid = cloud.hosts[0].pid_of(&uuid);
    assert!(pid.is_some(), "it outlives the agent");
    cloud.hosts[0].start_agent();
    assert_eq!(result(created).await.unwrap().state(), State::Running);
    assert_eq!(cloud.hosts[0].pid_of(&uuid), pid, "it is the same");
    cloud.assert_books(&[1]).await;
    let ip = cloud.address(&uuid).await;
    let guest = Guest {
        vm: uuid.clone(),
        ip,
    };
    guest.wrote(&cloud.hosts[0], "GUEST BOOT n=1", 1).await;

    let stop = vms.stop_vm_instance(StopVmInstanceRequest {
        uuid: uuid.clone(),
        grace_secs: Some(60),
    });
    let stopped = killed_at(&mut cloud.hosts[0], "AfterKept stop-vm", stop).await;
    assert_eq!(cloud.hosts[0].pid_of(&uuid), None);
    cloud.hosts[0].start_agent();
    assert_eq!(result(stopped).await.unwrap().state(), State::Stopped);
    cloud.assert_books(&[0]).await;

    let start = vms.start_vm_instance(StartVmInstanceRequest { uuid: uuid.clone() });
    let started = killed_at(&mut cloud.hosts[0], "BeforeEffect start-vm", start).await;
    assert_eq!(cloud.hosts[0].pid_of(&uuid), None);
    cloud.hosts[0].start_agent();
    assert_eq!(result(started).await.unwrap().state(), State::Running);
    guest.wrote(&cloud.hosts[0], "GUEST BOOT n=2", 1).await;
    let boots = cloud.hosts[0].console(&uuid).matches("GUEST BOOT").count();
    assert_eq!(boots, 2, "once each time");
    cloud.assert_books(&[1]).await;

    let uuid = guest.vm;
    let delete = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    let deleted = killed_at(&mut cloud.hosts[0], "AfterEffect destroy-vm", delete).await;
    assert_eq!(cloud.hosts[0].count(), (0, 0));
    cloud.hosts[0].start_agent();
    result(deleted).await.unwrap();
    cloud.assert_books(&[0]).await;
    assert_eq!(cloud.hosts[0].files(), (0, 0));
}
