//! A node that is killed in the middle of its work and started again.

use std::time::Duration;

use cairn_e2e::{Cloud, HeldNode, Ready};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, QueryVmInstanceRequest, VmInstance, VmInstanceClient,
        VmInstanceState as State,
    },
    event::result,
    operation::v1alpha1::{Operation, OperationClient, OperationState, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_testkit::{Database, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
const NODE: &str = env!("CARGO_BIN_EXE_held-node");

/// The steps of a creation, and whether the first commit about a step is an intent.
const CREATION: [&str; 9] = [
    "allocate-host",
    "select-backup-storage",
    "allocate-primary-storage",
    "cache-image",
    "allocate-volume",
    "allocate-nic",
    "instantiate-pre",
    "create-on-hypervisor",
    "instantiate-post",
];

async fn start(cloud: &mut Cloud, hold: Option<&str>) -> HeldNode {
    let node = HeldNode::start(NODE, &cloud.config_file(), hold).await;
    cloud.keep_ports(node.public, node.callback);
    node
}

/// Waits until no creation is under way, and returns the last one.
async fn creation_ended(cloud: &Cloud) -> Operation {
    let operations = OperationClient::new(cloud.mesh());
    let creation = Condition {
        field: "name".into(),
        operator: Operator::Eq.into(),
        values: vec!["CreateVmInstance".into()],
    };
    let query = Some(Query {
        conditions: vec![creation],
        ..Default::default()
    });
    let request = QueryOperationRequest { query };
    let look = async || {
        let found = operations.query_operation(request.clone()).await.ok()?;
        let ended = found
            .operations
            .iter()
            .all(|o| o.state() != OperationState::Accepted);
        ended.then(|| found.operations.last().unwrap().clone())
    };
    wait_for("the creation ends", look, LIMIT).await
}

async fn all_vms(cloud: &Cloud) -> Vec<VmInstance> {
    let vms = VmInstanceClient::new(cloud.mesh());
    vms.query_vm_instance(QueryVmInstanceRequest::default())
        .await
        .unwrap()
        .vm_instances
}

/// Creates until the node is held at `place`, kills it, starts it again, and sees to the rest.
async fn killed_at(cloud: &mut Cloud, ready: &Ready, place: &str) {
    let mut node = start(cloud, Some(place)).await;
    for host in &ready.site.hosts {
        cloud.connected(&host.uuid).await;
    }
    tokio::select! {
        held = node.held() => assert_eq!(held.held, place),
        created = cloud.create_vm(ready, "web") => panic!("{place} was not held: {created:?}"),
    }
    node.kill().await;

    let node = start(cloud, None).await;
    let ended = creation_ended(cloud).await;
    assert_eq!(
        ended.state(),
        OperationState::Succeeded,
        "{place}: {ended:?}"
    );
    let vms = all_vms(cloud).await;
    assert_eq!(vms.len(), 1, "{place}");
    assert_eq!(vms[0].state(), State::Running, "{place}");
    cloud.assert_books(ready, 1).await;
    assert_eq!(
        (cloud.count("volume").await, cloud.count("vm-nic").await),
        (1, 1),
        "{place}"
    );

    for host in &ready.site.hosts {
        cloud.connected(&host.uuid).await;
    }
    let delete = DeleteVmInstanceRequest {
        uuid: vms[0].uuid.clone(),
    };
    let client = VmInstanceClient::new(cloud.mesh());
    result(client.delete_vm_instance(delete).await.unwrap())
        .await
        .unwrap();
    cloud.assert_empty(ready).await;
    node.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_survives_kill_at_every_point_of_every_step() {
    let mut cloud = Cloud::prepare().await;
    let node = start(&mut cloud, None).await;
    let ready = cloud.ready(1).await;
    node.kill().await;
    for (index, step) in CREATION.iter().enumerate() {
        for point in ["BeforeIntent", "AfterIntent", "AfterEffect", "AfterOutcome"] {
            // The first step only changes rows: nothing announces it.
            if index == 0 && point == "BeforeIntent" {
                continue;
            }
            let place = format!("{point} create-vm-instance {step} run");
            killed_at(&mut cloud, &ready, &place).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_survives_kill_on_postgres_too() {
    let mut cloud = Cloud::prepare_on(Database::Postgres).await;
    let node = start(&mut cloud, None).await;
    let ready = cloud.ready(1).await;
    node.kill().await;
    for place in [
        "AfterIntent create-vm-instance allocate-volume run",
        "AfterEffect create-vm-instance create-on-hypervisor run",
        "BeforeIntent create-vm-instance instantiate-post run",
    ] {
        killed_at(&mut cloud, &ready, place).await;
    }
}
