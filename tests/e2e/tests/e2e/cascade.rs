//! A zone with everything below it: planned, shown, and deleted as it was shown or not at all.

use std::time::Duration;

use cairn_agent_protocol::CommandErrorCode;
use cairn_e2e::{Cloud, GONE_HOST, HeldNode, Ready};
use cairn_proto::{
    cascade::v1alpha1::{
        CascadeAction, CascadePlan, CascadePlanClient, CascadePlanState, ExecuteCascadePlanRequest,
        GetCascadePlanRequest, GetCascadePlanResponse,
    },
    compute::v1alpha1::{
        ClusterClient, CreateClusterRequest, DeleteHostRequest, DeleteVmInstanceRequest,
        HostClient, HostState as State, HostStatus, HypervisorType, UpdateZoneRequest,
        VmInstanceClient, ZoneClient,
    },
    event::{Event, OperationResponse as _, result},
    fault::Fault,
    operation::v1alpha1::{
        CancelOperationRequest, GetOperationRequest, OperationChild, OperationClient,
        OperationState, QueryOperationRequest,
    },
};
use cairn_simulator::{Fault as OnHost, FaultEffect, HostState};
use cairn_testkit::wait_for;
use cairn_types::ErrorCode;
use futures::StreamExt as _;

const LIMIT: Duration = Duration::from_secs(30);
const NODE: &str = env!("CARGO_BIN_EXE_held-node");

/// What goes with a zone; images and offerings are in none.
const IN_A_ZONE: [&str; 14] = [
    "zone",
    "cluster",
    "host",
    "vm-instance",
    "vm-nic",
    "volume",
    "image-cache",
    "l2-network",
    "l2-network-attachment",
    "l3-network",
    "ip-range",
    "primary-storage",
    "primary-storage-attachment",
    "primary-storage-capacity",
];

async fn plan(cloud: &Cloud, noun: &str, uuid: &str) -> Result<GetCascadePlanResponse, Fault> {
    cairn_e2e::plan(&cloud.mesh(), noun, uuid).await
}

async fn execute(cloud: &Cloud, plan: &GetCascadePlanResponse) -> Result<CascadePlan, Fault> {
    cairn_e2e::execute_plan(&cloud.mesh(), plan).await
}

/// The plan as it is now.
async fn now(cloud: &Cloud, plan: &GetCascadePlanResponse) -> CascadePlan {
    let plans = CascadePlanClient::new(cloud.mesh());
    let request = GetCascadePlanRequest {
        uuid: plan.cascade_plan.clone().unwrap().uuid,
        limit: Some(0),
        ..Default::default()
    };
    let found = plans.get_cascade_plan(request).await.unwrap();
    assert_eq!(found.items, []);
    found.cascade_plan.unwrap()
}

/// The plan's tree as text: a line each, indented.
fn tree(plan: &GetCascadePlanResponse) -> String {
    let lines = plan.items.iter().map(|item| {
        let part = match item.action() {
            CascadeAction::Part => " (part)",
            _ => "",
        };
        let indent = 2 * item.depth as usize;
        format!("{:indent$}{} {}{part}\n", "", item.resource_type, item.name)
    });
    lines.collect()
}

async fn try_cluster(cloud: &Cloud, zone: &str) -> Result<String, Fault> {
    let request = CreateClusterRequest {
        name: "late".into(),
        zone_uuid: zone.to_owned(),
        hypervisor_type: HypervisorType::Simulator.into(),
        ..Default::default()
    };
    let clusters = ClusterClient::new(cloud.mesh());
    let created = async { result(clusters.create_cluster(request).await?).await };
    let created = created.await.map_err(|status| Fault::from_status(&status));
    created.map(|cluster| cluster.uuid)
}

/// There is nothing of the zone: not in the database, not on a host.
async fn assert_gone(cloud: &Cloud) {
    for noun in IN_A_ZONE {
        assert_eq!(cloud.count(noun).await, 0, "{noun}");
    }
    for host in cloud.simulator.hosts() {
        assert!(
            host.vms.is_empty() && host.volumes.is_empty() && host.bridges.is_empty(),
            "{host:?}"
        );
        assert!(host.images.is_empty(), "{host:?}");
    }
    for noun in ["image", "instance-offering"] {
        assert_eq!(cloud.count(noun).await, 1, "{noun}");
    }
}

/// What operations that failed say.
async fn errors(cloud: &Cloud) -> Vec<String> {
    let operations = OperationClient::new(cloud.mesh());
    let request = QueryOperationRequest::default();
    let found = operations.query_operation(request).await.unwrap();
    let errors = found.operations.into_iter();
    errors
        .filter_map(|operation| operation.error_message)
        .collect()
}

/// A cloud with so many virtual machines on two hosts.
async fn busy(vms: usize) -> (Cloud, Ready) {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(2).await;
    for number in 0..vms {
        let name = format!("vm-{number}");
        cloud.create_vm(&ready, &name).await.unwrap();
    }
    (cloud, ready)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_goes_with_everything_as_the_plan_shows() {
    let (cloud, ready) = busy(3).await;
    let plan = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    let shown = tree(&plan);
    let vms = shown.matches("\n      vm-instance vm-").count();
    assert_eq!(vms, 3, "below their hosts:\n{shown}");
    for line in [
        "zone zone\n  cluster cluster\n    host host-0\n",
        "        vm-nic ",
        "        volume ",
        "\n  l2-network ",
        "\n    l3-network ",
        "\n      ip-range ",
        "\n  primary-storage ",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    assert_eq!(plan.blockers, []);
    let counted: u64 = plan.counts.iter().map(|count| count.count).sum();
    let made = plan.cascade_plan.clone().unwrap();
    assert_eq!(counted, made.item_count);
    assert_eq!(plan.items.len() as u64, made.item_count);
    assert_eq!(made.name, "delete zone zone");
    // To plan changes nothing.
    assert_eq!(cloud.count("vm-instance").await, 3);

    let executed = execute(&cloud, &plan).await.unwrap();
    assert_eq!(executed.state(), CascadePlanState::Executed);
    assert_gone(&cloud).await;
    below_it_are_all_that_it_called(&cloud, &plan).await;
    let again = execute(&cloud, &plan).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::WrongState, "{again:?}");
    assert!(again.message.contains("Executed"), "{}", again.message);
}

/// Each deletion is an operation of its own, below that of the plan.
async fn below_it_are_all_that_it_called(cloud: &Cloud, plan: &GetCascadePlanResponse) {
    let uuid = plan.cascade_plan.clone().unwrap().uuid;
    let query = format!("query operation name=ExecuteCascadePlan resourceUuid={uuid} --json");
    let found: serde_json::Value =
        serde_json::from_str(&crate::cli::cairn(cloud, &query).await.out).unwrap();
    let operation = found["operations"][0]["uuid"].as_str().unwrap().to_owned();
    let operations = OperationClient::new(cloud.mesh());
    let request = GetOperationRequest {
        uuid: operation.clone(),
    };
    let shown = operations.get_operation(request).await.unwrap();
    let names: Vec<_> = shown.children.iter().map(|it| it.name.as_str()).collect();
    for (name, count) in [
        ("ExpungeVmInstance", 3),
        ("DeleteHost", 2),
        ("DetachL2NetworkFromCluster", 1),
        ("DeleteZone", 1),
    ] {
        assert_eq!(
            names.iter().filter(|it| **it == name).count(),
            count,
            "{names:?}"
        );
    }
    assert_eq!(names.last(), Some(&"DeleteZone"), "in their order");
    assert!(!shown.more_children);
    let ended = |child: &OperationChild| child.state() == OperationState::Succeeded;
    assert!(shown.children.iter().all(ended), "{:?}", shown.children);

    let text = crate::cli::cairn(cloud, &format!("show operation {operation}"))
        .await
        .out;
    assert!(text.contains("ExpungeVmInstance"), "{text}");
    let query = format!("query operation parentUuid={operation} --count");
    let count = crate::cli::cairn(cloud, &query).await.out;
    let direct = shown.children.iter().filter(|it| it.depth == 0).count();
    assert_eq!(count.trim(), direct.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_stands_against_it_by_name() {
    let (cloud, ready) = busy(1).await;
    let plan = plan(&cloud, "image", &ready.image).await.unwrap();
    assert!(plan.cascade_plan.clone().unwrap().blocker_count > 0);
    let refused = execute(&cloud, &plan).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InUse);
    let blocker = "vm-instance vm-0";
    assert!(refused.message.contains(blocker), "{}", refused.message);
    assert_eq!(now(&cloud, &plan).await.state(), CascadePlanState::Planned);
    cloud.assert_books(&ready, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_does_not_fit_any_more_is_refused_with_the_difference() {
    let (cloud, ready) = busy(1).await;
    let before = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    // A name is no difference.
    let rename = UpdateZoneRequest {
        uuid: ready.site.zone.clone(),
        name: Some("west".into()),
        ..Default::default()
    };
    let zones = ZoneClient::new(cloud.mesh());
    result(zones.update_zone(rename).await.unwrap())
        .await
        .unwrap();

    let cluster = try_cluster(&cloud, &ready.site.zone).await.unwrap();
    let more = execute(&cloud, &before).await.unwrap_err();
    assert_eq!(more.code, ErrorCode::PlanOutdated);
    let expected = format!("cluster late ({cluster}) would be deleted too");
    assert!(more.message.contains(&expected), "{}", more.message);

    let with_cluster = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    let vms = VmInstanceClient::new(cloud.mesh());
    let vm = with_cluster
        .items
        .iter()
        .find(|item| item.name == "vm-0")
        .unwrap();
    let uuid = vm.resource_uuid.clone();
    let delete = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    result(delete.await.unwrap()).await.unwrap();
    let less = execute(&cloud, &with_cluster).await.unwrap_err();
    assert_eq!(less.code, ErrorCode::PlanOutdated);
    assert!(
        less.message.contains("vm-instance vm-0"),
        "{}",
        less.message
    );
    assert_eq!(cloud.count("cluster").await, 2);

    let fits = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    execute(&cloud, &fits).await.unwrap();
    assert_gone(&cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_below_what_is_going() {
    let (cloud, ready) = busy(1).await;
    let zone = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    let host = plan(&cloud, "cluster", &ready.site.cluster).await.unwrap();
    let hold = cloud.simulator.inject(OnHost {
        command: Some("destroy-vm".into()),
        ..OnHost::new(FaultEffect::Hold)
    });
    let (executed, ()) = tokio::join!(execute(&cloud, &zone), async {
        let executing = async || {
            let state = now(&cloud, &zone).await.state();
            (state == CascadePlanState::Executing).then_some(())
        };
        wait_for("the plan is executing", executing, LIMIT).await;
        let late = try_cluster(&cloud, &ready.site.zone).await.unwrap_err();
        assert_eq!(late.fields[0].0, "zone_uuid", "{late:?}");
        assert!(
            late.message.contains("is being deleted"),
            "{}",
            late.message
        );
        let vm = cloud.create_vm(&ready, "late").await.unwrap_err();
        assert!(vm.message.contains("being deleted"), "{}", vm.message);
        let other = execute(&cloud, &host).await.unwrap_err();
        assert_eq!(other.code, ErrorCode::WrongState, "{other:?}");
        cloud.simulator.release(hold);
    });
    executed.unwrap();
    assert_gone(&cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_deleted_ends_it_and_the_rest_is_free_again() {
    let (cloud, ready) = busy(1).await;
    let fail = cloud.simulator.inject(OnHost {
        command: Some("delete-bridge".into()),
        ..OnHost::new(FaultEffect::Fail {
            code: CommandErrorCode::Failed,
            message: "no such luck".into(),
        })
    });
    let first = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    let failed = execute(&cloud, &first).await.unwrap_err();
    assert!(
        failed.message.contains("l2-network-attachment"),
        "{}",
        failed.message
    );
    assert!(
        failed.message.contains("no such luck"),
        "{}",
        failed.message
    );
    assert!(failed.message.contains("are done"), "{}", failed.message);
    assert_eq!(now(&cloud, &first).await.state(), CascadePlanState::Failed);
    // Deepest first: the virtual machine is gone, the hosts are not.
    assert_eq!(cloud.count("vm-instance").await, 0);
    assert_eq!(cloud.count("host").await, 2);
    cloud.simulator.release(fail);
    // What is left is not going any more.
    try_cluster(&cloud, &ready.site.zone).await.unwrap();
    let second = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    execute(&cloud, &second).await.unwrap();
    assert_gone(&cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_lets_end_what_has_begun_and_begins_no_more() {
    let (cloud, ready) = busy(1).await;
    let zone = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    let hold = cloud.simulator.inject(OnHost {
        command: Some("destroy-vm".into()),
        ..OnHost::new(FaultEffect::Hold)
    });
    let plans = CascadePlanClient::new(cloud.mesh());
    let uuid = zone.cascade_plan.clone().unwrap().uuid;
    let request = ExecuteCascadePlanRequest { uuid, mode: None };
    let mut events = plans.execute_cascade_plan(request).await.unwrap();
    let first = events.next().await.unwrap().unwrap().into_event().unwrap();
    let Event::Accepted(accepted) = first else {
        panic!("{first:?}")
    };
    let held = async || {
        let mut records = cloud.simulator.records().into_iter();
        records.find(|record| record.command == "destroy-vm")
    };
    wait_for("the virtual machine is being destroyed", held, LIMIT).await;
    let cancel = CancelOperationRequest {
        uuid: accepted.operation_uuid,
    };
    let operations = OperationClient::new(cloud.mesh());
    operations.cancel_operation(cancel).await.unwrap();
    cloud.simulator.release(hold);
    let ended = result(events).await.unwrap_err();
    assert_eq!(Fault::from_status(&ended).code, ErrorCode::Cancelled);
    assert_eq!(now(&cloud, &zone).await.state(), CascadePlanState::Failed);
    assert_eq!(cloud.count("vm-instance").await, 0);
    assert_eq!(cloud.count("zone").await, 1);
    try_cluster(&cloud, &ready.site.zone).await.unwrap();
}

/// A cloud of one host and two virtual machines, whose node is a process that stops at a place.
pub(crate) async fn held_cloud(place: &str) -> (Cloud, HeldNode, Ready) {
    let mut cloud = Cloud::prepare().await;
    let node = HeldNode::start(NODE, &cloud.config_file(), Some(place)).await;
    cloud.keep_ports(node.public, node.callback);
    let ready = cloud.ready(1).await;
    for name in ["vm-0", "vm-1"] {
        cloud.create_vm(&ready, name).await.unwrap();
    }
    (cloud, node, ready)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cascade_survives_kill_wherever_it_is() {
    for place in [
        "AfterOutcome cascade mark run",
        "AfterEffect expunge-vm-instance destroy-on-hypervisor run",
        "AfterEffect cascade vm-instance run",
        "AfterEffect cascade l2-network-attachment run",
        "AfterEffect cascade host run",
        "AfterEffect cascade zone run",
    ] {
        let (cloud, mut node, ready) = held_cloud(place).await;
        let zone = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
        tokio::select! {
            held = node.held() => assert_eq!(held.held, place),
            executed = execute(&cloud, &zone) => panic!("{place} was not held: {executed:?}"),
        }
        node.kill().await;

        let node = HeldNode::start(NODE, &cloud.config_file(), None).await;
        let ended = async || {
            let state = now(&cloud, &zone).await.state();
            (state != CascadePlanState::Executing).then_some(state)
        };
        let state = wait_for("the cascade ends", ended, LIMIT).await;
        let why = errors(&cloud).await;
        assert_eq!(state, CascadePlanState::Executed, "{place}: {why:?}");
        assert_gone(&cloud).await;
        node.kill().await;
    }
}

/// What is on a simulated host.
fn host_state(cloud: &Cloud, uuid: &str) -> HostState {
    let mut hosts = cloud.simulator.hosts().into_iter();
    hosts.find(|host| host.host.to_string() == uuid).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_goes_and_the_machine_is_clean() {
    let (cloud, ready) = busy(4).await;
    let [gone, stays] = [0, 1].map(|number| ready.site.hosts[number].uuid.clone());
    let on = |host: &str| host_state(&cloud, host).vms.len();
    let (going, staying) = (on(&gone), on(&stays));
    assert!(going > 0 && staying > 0);

    let hosts = HostClient::new(cloud.mesh());
    let delete = async || {
        let uuid = gone.clone();
        let request = DeleteHostRequest { uuid };
        let deleted = async { result(hosts.delete_host(request).await?).await };
        deleted.await.map_err(|status| Fault::from_status(&status))
    };
    let refused = delete().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InUse);
    assert!(
        refused.message.contains("vm-instance"),
        "{}",
        refused.message
    );
    assert!(!refused.message.contains("capacity"), "{}", refused.message);

    // A bridge that stays has the host as it was.
    let fail = cloud.simulator.inject(OnHost {
        command: Some("delete-bridge".into()),
        ..OnHost::new(FaultEffect::Fail {
            code: CommandErrorCode::Failed,
            message: "no such luck".into(),
        })
    });
    let first = plan(&cloud, "host", &gone).await.unwrap();
    let failed = execute(&cloud, &first).await.unwrap_err();
    assert!(
        failed.message.contains("no such luck"),
        "{}",
        failed.message
    );
    assert_eq!(on(&gone), 0);
    assert_eq!(cloud.host(&gone).await.state(), State::Enabled);
    cloud.simulator.release(fail);

    delete().await.unwrap();
    let left = host_state(&cloud, &gone);
    assert!(
        left.bridges.is_empty() && left.images.is_empty(),
        "{left:?}"
    );
    assert_eq!(on(&stays), staying);
    assert_eq!(cloud.count("primary-storage-capacity").await, 1);
    assert_eq!(cloud.count("l2-network-attachment").await, 1);
    // The cloud works on.
    cloud.create_vm(&ready, "late").await.unwrap();
    assert_eq!(on(&stays), staying + 1);
    let zone = plan(&cloud, "zone", &ready.site.zone).await.unwrap();
    execute(&cloud, &zone).await.unwrap();
    assert_gone(&cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_can_go() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let host = ready.site.hosts[0].uuid.clone();
    cloud.stop_agents().await;
    cloud.host_in(&host, HostStatus::Disconnected).await;
    let hosts = HostClient::new(cloud.mesh());
    let request = DeleteHostRequest { uuid: host };
    result(hosts.delete_host(request).await.unwrap())
        .await
        .unwrap();
    assert_eq!(cloud.count("host").await, 0);
    assert_eq!(cloud.count("primary-storage-capacity").await, 0);
    // Nobody takes away what a machine has that is not of the cloud any more.
    cloud.leaves(&[GONE_HOST]);
}
