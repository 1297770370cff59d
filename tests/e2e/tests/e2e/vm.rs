//! The life of virtual machines on simulated hosts.

use std::time::Duration;

use cairn_agent_protocol::CommandErrorCode;
use cairn_e2e::{Cloud, VM_MEMORY};
use cairn_node::ServiceName;
use cairn_proto::{
    compute::v1alpha1::{
        CreateVmInstanceRequest, DeleteVmInstanceRequest, GetVmInstanceRequest, HostClient,
        RebootVmInstanceRequest, ReconnectHostRequest, StartVmInstanceRequest,
        StopVmInstanceRequest, VmInstance, VmInstanceClient, VmInstanceState as State,
    },
    event::result,
    fault::Fault,
    operation::v1alpha1::{
        CancelOperationRequest, GetOperationRequest, OperationClient, OperationStepState,
        QueryOperationRequest,
    },
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_simulator::{Fault as HostFault, FaultEffect, HostSize};
use cairn_testkit::{wait_for, wait_until};
use cairn_types::{ErrorCode, Uuid};
use futures::{StreamExt as _, future::join_all};

fn named(uuid: &str) -> String {
    uuid.to_owned()
}

async fn state(vms: &VmInstanceClient, uuid: &str) -> State {
    let request = GetVmInstanceRequest { uuid: named(uuid) };
    vms.get_vm_instance(request)
        .await
        .unwrap()
        .vm_instance
        .unwrap()
        .state()
}

async fn destroy(vms: &VmInstanceClient, uuid: &str) -> Result<VmInstance, Fault> {
    let request = DeleteVmInstanceRequest { uuid: named(uuid) };
    let ended = async { result(vms.delete_vm_instance(request).await?).await };
    ended.await.map_err(|status| Fault::from_status(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_created_stopped_started_rebooted_and_destroyed() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(2).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let vm = cloud.create_vm(&ready, "web").await.unwrap();
    assert_eq!(vm.state(), State::Running);
    assert!(vm.root_volume_uuid.is_some());
    cloud.assert_books(&ready, 1).await;
    assert_eq!(
        (cloud.count("volume").await, cloud.count("vm-nic").await),
        (1, 1)
    );

    let stop = StopVmInstanceRequest {
        uuid: vm.uuid.clone(),
        grace_secs: None,
    };
    let stopped = result(vms.stop_vm_instance(stop.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (stopped.state(), stopped.host_uuid),
        (State::Stopped, vm.host_uuid.clone())
    );
    cloud.assert_books(&ready, 0).await;

    let refused = result(vms.stop_vm_instance(stop).await.unwrap())
        .await
        .unwrap_err();
    let refused = Fault::from_status(&refused);
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(
        refused
            .message
            .contains("is Stopped, which Stopping may not follow"),
        "{refused:?}"
    );

    let start = StartVmInstanceRequest {
        uuid: vm.uuid.clone(),
    };
    let started = result(vms.start_vm_instance(start).await.unwrap())
        .await
        .unwrap();
    assert_eq!(started.state(), State::Running);
    let reboot = RebootVmInstanceRequest {
        uuid: vm.uuid.clone(),
    };
    let rebooted = result(vms.reboot_vm_instance(reboot).await.unwrap())
        .await
        .unwrap();
    assert_eq!(rebooted.state(), State::Running);
    cloud.assert_books(&ready, 1).await;

    destroy(&vms, &vm.uuid).await.unwrap();
    cloud.assert_empty(&ready).await;
    assert_eq!(
        destroy(&vms, &vm.uuid).await.unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_fails_on_the_hypervisor_leaves_nothing_and_says_why() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let message = "no room for another process".to_owned();
    cloud.simulator.inject(HostFault {
        command: Some("start-vm".into()),
        times: Some(1),
        ..HostFault::new(FaultEffect::Fail {
            code: CommandErrorCode::Failed,
            message,
        })
    });
    let fault = cloud.create_vm(&ready, "web").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentFailed);
    assert!(
        fault.message.contains("no room for another process"),
        "{fault:?}"
    );
    assert_eq!(fault.rolled_back.first().unwrap(), "create-on-hypervisor");
    assert_eq!(fault.rolled_back.last().unwrap(), "allocate-host");
    cloud.assert_empty(&ready).await;

    let operations = OperationClient::new(cloud.mesh());
    let failed = Condition {
        field: "state".into(),
        operator: Operator::Eq.into(),
        values: vec!["Failed".into()],
    };
    let query = Some(Query {
        conditions: vec![failed],
        ..Default::default()
    });
    let found = operations
        .query_operation(QueryOperationRequest { query })
        .await
        .unwrap();
    let uuid = found.operations[0].uuid.clone();
    let shown = operations
        .get_operation(GetOperationRequest { uuid })
        .await
        .unwrap();
    assert!(
        shown
            .steps
            .iter()
            .all(|step| step.state() == OperationStepState::RolledBack)
    );
    let step = shown
        .steps
        .iter()
        .find(|step| step.name == "create-on-hypervisor")
        .unwrap();
    assert!(step.error_message.contains("no room"), "{step:?}");
    // The same again, without the fault.
    cloud.create_vm(&ready, "web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_that_fails_on_the_host_is_rolled_back() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    for command in ["cache-image", "create-volume", "start-vm"] {
        for effect in [
            FaultEffect::Fail {
                code: CommandErrorCode::Failed,
                message: "refused".into(),
            },
            FaultEffect::FailAfter {
                message: "took place, and failed".into(),
            },
            FaultEffect::Panic,
        ] {
            let fault = HostFault {
                command: Some(command.into()),
                times: Some(1),
                ..HostFault::new(effect)
            };
            cloud.simulator.inject(fault);
            cloud.create_vm(&ready, "web").await.unwrap_err();
            cloud.assert_empty(&ready).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_creations_at_once_leave_exact_books() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(4).await;
    let created = join_all((0..200).map(|n| {
        let name = format!("vm-{n}");
        let (cloud, ready) = (&cloud, &ready);
        async move { cloud.create_vm(ready, &name).await.unwrap() }
    }));
    let created = created.await;
    cloud.assert_books(&ready, 200).await;
    assert_eq!(
        (cloud.count("volume").await, cloud.count("vm-nic").await),
        (200, 200)
    );
    let vms = VmInstanceClient::new(cloud.mesh());
    for destroyed in join_all(created.iter().map(|vm| destroy(&vms, &vm.uuid))).await {
        destroyed.unwrap();
    }
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_fits_ends_with_clear_refusals() {
    let cloud = Cloud::start().await;
    let mut ready = cloud.ready(2).await;
    for host in &mut ready.site.hosts {
        let size = HostSize {
            memory_bytes: 5 * VM_MEMORY,
            ..HostSize::default()
        };
        cloud.simulator.set_size(host.uuid.parse().unwrap(), size);
        let hosts = HostClient::new(cloud.mesh());
        let request = ReconnectHostRequest {
            uuid: host.uuid.clone(),
        };
        *host = result(hosts.reconnect_host(request).await.unwrap())
            .await
            .unwrap();
    }
    let creations = join_all((0..20).map(|n| {
        let (cloud, ready) = (&cloud, &ready);
        async move { cloud.create_vm(ready, &format!("vm-{n}")).await }
    }));
    let (created, refused): (Vec<_>, Vec<_>) = creations.await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (10, 10));
    for fault in refused {
        let fault = fault.unwrap_err();
        assert_eq!(fault.code, ErrorCode::OutOfCapacity);
        assert!(
            fault.message.contains("no host fits: of 2 hosts, 0 are"),
            "{fault:?}"
        );
    }
    cloud.assert_books(&ready, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_host_leaves_its_virtual_machines_unknown_until_it_is_back() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vm = cloud.create_vm(&ready, "web").await.unwrap();
    let vms = VmInstanceClient::new(cloud.mesh());
    let limit = Duration::from_secs(30);
    cloud.stop_agents().await;
    let read = async || state(&vms, &vm.uuid).await;
    wait_until("unknown", read, |state| *state == State::Unknown, limit).await;
    let refused = destroy(&vms, &vm.uuid).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState, "{refused:?}");
    cloud.start_agents().await;
    wait_until("running", read, |state| *state == State::Running, limit).await;
    cloud.assert_books(&ready, 1).await;
}

/// The operation that is under way about a resource.
async fn operation_about(cloud: &Cloud, name: &str) -> String {
    let operations = OperationClient::new(cloud.mesh());
    let is = |field: &str, value: &str| Condition {
        field: field.into(),
        operator: Operator::Eq.into(),
        values: vec![value.into()],
    };
    let conditions = vec![is("name", name), is("state", "Accepted")];
    let request = QueryOperationRequest {
        query: Some(Query {
            conditions,
            ..Default::default()
        }),
    };
    let look = async || {
        let found = operations.query_operation(request.clone()).await.unwrap();
        found
            .operations
            .first()
            .map(|operation| operation.uuid.clone())
    };
    wait_for(name, look, Duration::from_secs(30)).await
}

/// A command of the next creation that the host does not begin until it is released.
fn held(cloud: &Cloud, command: &str) -> u64 {
    let command = Some(command.to_owned());
    cloud.simulator.inject(HostFault {
        command,
        ..HostFault::new(FaultEffect::Hold)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_is_cancelled_is_rolled_back() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let hold = held(&cloud, "create-volume");
    let cancel = async {
        let uuid = operation_about(&cloud, "CreateVmInstance").await;
        cloud
            .simulator
            .wait_for(|records| records.iter().any(|r| r.command == "create-volume"))
            .await;
        let operations = OperationClient::new(cloud.mesh());
        let asked = operations
            .cancel_operation(CancelOperationRequest { uuid })
            .await
            .unwrap();
        assert!(asked.operation.unwrap().cancel_requested);
        assert!(cloud.simulator.release(hold));
    };
    let (created, ()) = tokio::join!(cloud.create_vm(&ready, "web"), cancel);
    let fault = created.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Cancelled, "{fault:?}");
    assert_eq!(fault.rolled_back.last().unwrap(), "allocate-host");
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_a_creation_goes_on_with_it_at_its_next_start() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let hold = held(&cloud, "start-vm");
    tokio::select! {
        created = cloud.create_vm(&ready, "web") => panic!("{created:?}"),
        () = cloud.simulator.wait_for(|records| records.iter().any(|r| r.command == "start-vm")) => {}
    }
    cloud.stop_node().await;
    cloud.start_node().await;
    assert!(cloud.simulator.release(hold));
    let vms = VmInstanceClient::new(cloud.mesh());
    let read = async || {
        vms.query_vm_instance(Default::default())
            .await
            .unwrap()
            .vm_instances[0]
            .state()
    };
    wait_until(
        "running",
        read,
        |state| *state == State::Running,
        Duration::from_secs(30),
    )
    .await;
    cloud.assert_books(&ready, 1).await;
    let started = cloud
        .simulator
        .records()
        .iter()
        .filter(|r| r.command == "start-vm")
        .count();
    assert_eq!(started, 1, "the command took place once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_in_a_command_gets_it_again() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let hold = held(&cloud, "start-vm");
    let uuid = Uuid::now_v7().to_string();
    let vms = VmInstanceClient::new(cloud.mesh());
    let request = CreateVmInstanceRequest {
        uuid: uuid.clone(),
        ..ready.vm_request("web")
    };
    let mut events = vms.create_vm_instance(request).await.unwrap();
    // Accepted: from here on it ends, whoever listens.
    events.next().await.unwrap().unwrap();
    cloud
        .simulator
        .wait_for(|records| records.iter().any(|r| r.command == "start-vm"))
        .await;
    cloud.stop_agents().await;
    assert!(cloud.simulator.release(hold));
    cloud.start_agents().await;
    assert_eq!(result(events).await.unwrap().state(), State::Running);
    cloud.assert_books(&ready, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_only_what_its_configuration_names() {
    let mut cloud = Cloud::prepare().await;
    cloud.services = Some(vec![ServiceName::Query]);
    cloud.start_node().await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let refused = vms.query_vm_instance(Default::default()).await.unwrap_err();
    assert_eq!(Fault::from_status(&refused).code, ErrorCode::Unimplemented);
    assert_eq!(cloud.count("vm-instance").await, 0);
}
