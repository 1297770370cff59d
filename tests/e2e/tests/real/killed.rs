//! A node that is killed while a real virtual machine is being made.

use cairn_proto::compute::v1alpha1::{QueryVmInstanceRequest, VmInstanceState as State};
use cairn_types::Uuid;

use crate::cloud::RealCloud;

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
    let request = cairn_proto::compute::v1alpha1::CreateVmInstanceRequest {
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
