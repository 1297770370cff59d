//! What goes wrong while a virtual machine is made: it is undone, or done all the same.

use std::time::Duration;

use cairn_agent_protocol::CommandErrorCode;
use cairn_e2e::Cloud;
use cairn_proto::{
    compute::v1alpha1::{CreateVmInstanceRequest, VmInstanceClient, VmInstanceState as State},
    event::result,
    operation::v1alpha1::{
        CancelOperationRequest, GetOperationRequest, OperationClient, OperationStepState,
        QueryOperationRequest,
    },
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_simulator::{Fault as HostFault, FaultEffect};
use cairn_testkit::{wait_for, wait_until};
use cairn_types::{ErrorCode, Uuid};
use futures::StreamExt as _;

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
    let failed = shown
        .steps
        .iter()
        .position(|step| step.name == "create-on-hypervisor")
        .unwrap();
    for (index, step) in shown.steps.iter().enumerate() {
        let undone = index <= failed;
        let expected = if undone {
            OperationStepState::RolledBack
        } else {
            OperationStepState::Waiting
        };
        assert_eq!(step.state(), expected, "{}", step.name);
    }
    let step = &shown.steps[failed];
    assert!(step.error_message.contains("no room"), "{step:?}");
    // The same again, without the fault.
    cloud.create_vm(&ready, "web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_that_fails_on_the_host_is_rolled_back() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    for command in ["cache-image", "create-volume", "apply-dhcp", "start-vm"] {
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
async fn an_undo_that_fails_is_tried_again() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    for (command, times) in [("start-vm", 1), ("destroy-vm", 2), ("delete-volume", 1)] {
        let effect = FaultEffect::Fail {
            code: CommandErrorCode::Failed,
            message: "not now".into(),
        };
        cloud.simulator.inject(HostFault {
            command: Some(command.into()),
            times: Some(times),
            ..HostFault::new(effect)
        });
    }
    let fault = cloud.create_vm(&ready, "web").await.unwrap_err();
    assert!(!fault.message.contains("not rolled back"), "{fault:?}");
    cloud.assert_empty(&ready).await;
}
