//! Cascades that do something else than deleting: what is stopped, detached and cleared, for which
//! operation, and what becomes of failures.

use std::time::Duration;

use cairn_agent_protocol::CommandErrorCode;
use cairn_e2e::{Cloud, HeldNode, Ready, execute_plan, execute_plan_in, plan, plan_for};
use cairn_proto::{
    cascade::v1alpha1::{
        CascadeAction, CascadeFailure, CascadeMode, CascadePlan, CascadePlanClient,
        CascadePlanState, GetCascadePlanRequest, GetCascadePlanResponse,
    },
    compute::v1alpha1::{
        DetachVmInstanceNicRequest, EnterHostMaintenanceRequest, GetVmInstanceRequest, HostClient,
        HostState, LeaveHostMaintenanceRequest, StartVmInstanceRequest, StopVmInstanceRequest,
        UpdateHostRequest, VmInstance, VmInstanceClient, VmInstanceState,
    },
    event::{OperationResponse, result},
    fault::Fault,
    meta::Resource,
    network::v1alpha1::{
        AttachL2NetworkToClusterRequest, DetachL2NetworkFromClusterRequest, L2NetworkAttachment,
        L2NetworkClient, VmNic,
    },
    query::v1alpha1::{Query, QueryClient, QueryRequest},
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, DetachPrimaryStorageFromClusterRequest,
        PrimaryStorageAttachment, PrimaryStorageClient,
    },
};
use cairn_simulator::{Fault as OnHost, FaultEffect};
use cairn_testkit::wait_for;
use cairn_types::ErrorCode;
use futures::stream::BoxStream;
use tonic::Status;

use crate::cli::cairn;

const LIMIT: Duration = Duration::from_secs(30);
const NODE: &str = env!("CARGO_BIN_EXE_held-node");

/// How a mutating call ended.
async fn ended<M: OperationResponse>(
    call: impl Future<Output = Result<BoxStream<'static, Result<M, Status>>, Status>>,
) -> Result<M::Result, Fault> {
    let ended = async { result(call.await?).await };
    ended.await.map_err(|status| Fault::from_status(&status))
}

/// All resources of a type.
async fn all<R: Resource>(cloud: &Cloud) -> Vec<R> {
    let request = QueryRequest {
        resource: R::NOUN.to_owned(),
        query: Some(Query::default()),
    };
    let found = QueryClient::new(cloud.mesh()).query(request).await.unwrap();
    let items = found.items.into_iter();
    items.map(|item| R::decode(&*item.value).unwrap()).collect()
}

/// The plan as lines: depth, noun and action; the tree without names.
fn lines(plan: &GetCascadePlanResponse) -> Vec<(u32, &str, CascadeAction)> {
    let items = plan.items.iter();
    items
        .map(|item| (item.depth, item.resource_type.as_str(), item.action()))
        .collect()
}

async fn vm(cloud: &Cloud, uuid: &str) -> VmInstance {
    let request = GetVmInstanceRequest {
        uuid: uuid.to_owned(),
    };
    let vms = VmInstanceClient::new(cloud.mesh());
    let found = vms.get_vm_instance(request).await.unwrap();
    found.vm_instance.unwrap()
}

async fn start(cloud: &Cloud, uuid: &str) -> Result<VmInstance, Fault> {
    let request = StartVmInstanceRequest {
        uuid: uuid.to_owned(),
    };
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.start_vm_instance(request)).await
}

async fn stop(cloud: &Cloud, uuid: &str) {
    let request = StopVmInstanceRequest {
        uuid: uuid.to_owned(),
        grace_secs: Some(0),
    };
    let vms = VmInstanceClient::new(cloud.mesh());
    ended(vms.stop_vm_instance(request)).await.unwrap();
}

async fn one(hosts: usize) -> (Cloud, Ready, VmInstance) {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(hosts).await;
    let vm = cloud.create_vm(&ready, "vm-0").await.unwrap();
    (cloud, ready, vm)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_goes_and_its_virtual_machine_is_stopped_and_loses_the_nic() {
    use CascadeAction::{Delete, Detach, Stop};
    let (cloud, ready, made) = one(1).await;
    let (mesh, vms) = (cloud.mesh(), VmInstanceClient::new(cloud.mesh()));
    let nic: VmNic = all(&cloud).await.remove(0);
    let request = DetachVmInstanceNicRequest {
        uuid: made.uuid.clone(),
        vm_nic_uuid: nic.uuid.clone(),
    };
    let running = ended(vms.detach_vm_instance_nic(request.clone())).await;
    let running = running.unwrap_err();
    assert_eq!(running.code, ErrorCode::WrongState, "{running:?}");
    assert!(running.message.contains("Running"), "{running:?}");

    let plan = plan(&mesh, "l3-network", &ready.l3_network).await.unwrap();
    let shown = [
        (0, "l3-network", Delete),
        (1, "ip-range", Delete),
        (2, "vm-nic", Detach),
        (3, "vm-instance", Stop),
    ];
    assert_eq!(lines(&plan), shown);
    execute_plan(&mesh, &plan).await.unwrap();
    for noun in ["l3-network", "ip-range", "vm-nic"] {
        assert_eq!(cloud.count(noun).await, 0, "{noun}");
    }
    let stopped = vm(&cloud, &made.uuid).await;
    assert_eq!(stopped.state(), VmInstanceState::Stopped);
    cloud.assert_books(&ready, 0).await;
    let nothing = ended(vms.detach_vm_instance_nic(request)).await;
    assert_eq!(nothing.unwrap_err().fields[0].0, "vm_nic_uuid");
    // It is free again, and runs without a nic.
    start(&cloud, &made.uuid).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offering_goes_and_only_the_reference_is_cleared() {
    use CascadeAction::{Clear, Delete};
    let (cloud, ready, made) = one(1).await;
    let mesh = cloud.mesh();
    let offering = made.instance_offering_uuid.clone();
    assert_eq!(offering.as_deref(), Some(&*ready.offering));
    let plan = plan(&mesh, "instance-offering", &ready.offering)
        .await
        .unwrap();
    let shown = [(0, "instance-offering", Delete), (1, "vm-instance", Clear)];
    assert_eq!(lines(&plan), shown);
    execute_plan(&mesh, &plan).await.unwrap();
    let after = vm(&cloud, &made.uuid).await;
    assert_eq!(after.instance_offering_uuid, None);
    assert_eq!(after.state(), VmInstanceState::Running);
    assert_eq!(cloud.count("instance-offering").await, 0);
    cloud.assert_books(&ready, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_with_another_action_is_refused_with_the_difference() {
    let (cloud, ready, made) = one(1).await;
    let mesh = cloud.mesh();
    let before = plan(&mesh, "l3-network", &ready.l3_network).await.unwrap();
    stop(&cloud, &made.uuid).await;
    let refused = execute_plan(&mesh, &before).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PlanOutdated);
    let expected = format!("vm-instance vm-0 ({}) is not concerned any more", made.uuid);
    assert!(refused.message.contains(&expected), "{}", refused.message);
    assert_eq!(cloud.count("vm-nic").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_enters_maintenance_once_nothing_runs_on_it_and_leaves_it() {
    use CascadeAction::{Operate, Stop};
    const ENTER: &str = "EnterHostMaintenance";
    let (cloud, ready, made) = one(2).await;
    let (mesh, hosts) = (cloud.mesh(), HostClient::new(cloud.mesh()));
    let host = made.host_uuid.clone().unwrap();
    let leave = async || {
        let uuid = host.clone();
        ended(hosts.leave_host_maintenance(LeaveHostMaintenanceRequest { uuid })).await
    };
    assert_eq!(leave().await.unwrap_err().code, ErrorCode::WrongState);
    // By itself it stops nothing.
    let uuid = host.clone();
    let enter = hosts.enter_host_maintenance(EnterHostMaintenanceRequest { uuid });
    let entered = ended(enter).await.unwrap();
    assert_eq!(entered.state(), HostState::PreMaintenance);
    let enable = UpdateHostRequest {
        uuid: host.clone(),
        state: Some(HostState::Enabled.into()),
        ..Default::default()
    };
    let refused = ended(hosts.update_host(enable)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert_eq!(leave().await.unwrap().state(), HostState::Enabled);

    let wrong = plan_for(&mesh, "RebootHost", "host", &host).await;
    let (field, problem) = wrong.unwrap_err().fields.remove(0);
    assert_eq!(field, "operation");
    assert!(problem.contains(ENTER), "{problem}");
    let plan = plan_for(&mesh, ENTER, "host", &host).await.unwrap();
    let shown = [(0, "host", Operate), (1, "vm-instance", Stop)];
    assert_eq!(lines(&plan), shown);
    execute_plan(&mesh, &plan).await.unwrap();
    assert_eq!(cloud.host(&host).await.state(), HostState::Maintenance);
    let stopped = vm(&cloud, &made.uuid).await;
    assert_eq!(stopped.state(), VmInstanceState::Stopped);
    assert_eq!(stopped.host_uuid.as_deref(), Some(&*host));
    // Nothing comes there.
    let refused = start(&cloud, &made.uuid).await.unwrap_err();
    assert!(refused.message.contains("Maintenance"), "{refused:?}");
    let other = cloud.create_vm(&ready, "vm-1").await.unwrap();
    assert_ne!(other.host_uuid.as_deref(), Some(&*host));
    leave().await.unwrap();
    start(&cloud, &made.uuid).await.unwrap();
    cloud.assert_books(&ready, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_detached_from_a_cluster_when_nothing_runs_with_it_there() {
    use CascadeAction::{Delete, Stop};
    let (cloud, ready, made) = one(1).await;
    let (mesh, networks) = (cloud.mesh(), L2NetworkClient::new(cloud.mesh()));
    let attachment: L2NetworkAttachment = all(&cloud).await.remove(0);
    let (uuid, cluster_uuid) = (attachment.l2_network_uuid, attachment.cluster_uuid);
    let detach = DetachL2NetworkFromClusterRequest {
        uuid: uuid.clone(),
        cluster_uuid: cluster_uuid.clone(),
    };
    let refused = ended(networks.detach_l2_network_from_cluster(detach)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InUse);
    assert!(refused.message.contains("1 vm-instance"), "{refused:?}");

    let noun = L2NetworkAttachment::NOUN;
    let plan = plan(&mesh, noun, &attachment.uuid).await.unwrap();
    let shown = [(0, noun, Delete), (1, "vm-instance", Stop)];
    assert_eq!(lines(&plan), shown);
    let operation = plan.cascade_plan.clone().unwrap().operation;
    assert_eq!(operation, "DetachL2NetworkFromCluster");
    execute_plan(&mesh, &plan).await.unwrap();
    assert_eq!(cloud.count("vm-nic").await, 1);
    let refused = start(&cloud, &made.uuid).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(refused.message.contains("L2 networks"), "{refused:?}");
    cloud.assert_books(&ready, 0).await;
    let attach = AttachL2NetworkToClusterRequest { uuid, cluster_uuid };
    ended(networks.attach_l2_network_to_cluster(attach))
        .await
        .unwrap();
    start(&cloud, &made.uuid).await.unwrap();
    cloud.assert_books(&ready, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_is_detached_from_a_cluster_when_nothing_runs_from_it_there() {
    use CascadeAction::{Delete, Stop};
    let (cloud, ready, made) = one(1).await;
    let (mesh, storages) = (cloud.mesh(), PrimaryStorageClient::new(cloud.mesh()));
    let attachment: PrimaryStorageAttachment = all(&cloud).await.remove(0);
    let (uuid, cluster_uuid) = (attachment.primary_storage_uuid, attachment.cluster_uuid);
    let detach = DetachPrimaryStorageFromClusterRequest {
        uuid: uuid.clone(),
        cluster_uuid: cluster_uuid.clone(),
    };
    let refused = ended(storages.detach_primary_storage_from_cluster(detach)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InUse);

    let noun = PrimaryStorageAttachment::NOUN;
    let plan = plan(&mesh, noun, &attachment.uuid).await.unwrap();
    let shown = [(0, noun, Delete), (1, "vm-instance", Stop)];
    assert_eq!(lines(&plan), shown);
    execute_plan(&mesh, &plan).await.unwrap();
    let refused = start(&cloud, &made.uuid).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(refused.message.contains("primary-storage"), "{refused:?}");
    let attach = AttachPrimaryStorageToClusterRequest { uuid, cluster_uuid };
    ended(storages.attach_primary_storage_to_cluster(attach))
        .await
        .unwrap();
    start(&cloud, &made.uuid).await.unwrap();
    // What was reserved is reserved still, and goes back.
    cloud.assert_books(&ready, 1).await;
    let delete = cairn_e2e::cascade(&mesh, "vm-instance", &made.uuid);
    delete.await.unwrap();
    cloud.assert_empty(&ready).await;
}

/// The plan as it is now.
async fn now(cloud: &Cloud, plan: &GetCascadePlanResponse) -> GetCascadePlanResponse {
    let plans = CascadePlanClient::new(cloud.mesh());
    let request = GetCascadePlanRequest {
        uuid: plan.cascade_plan.clone().unwrap().uuid,
        ..Default::default()
    };
    plans.get_cascade_plan(request).await.unwrap()
}

fn state(plan: &GetCascadePlanResponse) -> CascadePlanState {
    plan.cascade_plan.as_ref().map(CascadePlan::state).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforcing_goes_on_after_a_failure_and_names_what_it_left() {
    let (cloud, ready, _) = one(2).await;
    let mesh = cloud.mesh();
    let fail = cloud.simulator.inject(OnHost {
        command: Some("delete-bridge".into()),
        ..OnHost::new(FaultEffect::Fail {
            code: CommandErrorCode::Failed,
            message: "no such luck".into(),
        })
    });
    let first = plan(&mesh, "zone", &ready.site.zone).await.unwrap();
    let left = execute_plan_in(&mesh, &first, CascadeMode::Enforcing).await;
    let left = left.unwrap_err();
    assert_eq!(left.code, ErrorCode::CascadeIncomplete);
    assert!(left.message.contains("no such luck"), "{}", left.message);
    let after = now(&cloud, &first).await;
    assert_eq!(state(&after), CascadePlanState::Failed);
    let count = after.cascade_plan.clone().unwrap().failure_count;
    assert_eq!(after.failures.len() as u64, count);
    // What failed is first, with its code; what has to come after it was not tried.
    let noun = |failure: &CascadeFailure| failure.item.clone().unwrap().resource_type;
    let failed = after.failures.iter().filter(|f| !f.code.is_empty());
    let failed: Vec<_> = failed.map(noun).collect();
    assert_eq!(failed, ["l2-network-attachment"], "{:?}", after.failures);
    let kept: Vec<_> = after.failures[1..].iter().map(noun).collect();
    for noun in ["host", "cluster", "l2-network", "zone"] {
        assert!(kept.iter().any(|kept| kept == noun), "{noun} in {kept:?}");
        assert!(cloud.count(noun).await > 0, "{noun}");
    }
    // Everything beside it is done.
    for noun in ["vm-instance", "l3-network", "primary-storage-attachment"] {
        assert_eq!(cloud.count(noun).await, 0, "{noun}");
    }
    cloud.simulator.release(fail);
    let second = plan(&mesh, "zone", &ready.site.zone).await.unwrap();
    let done = execute_plan_in(&mesh, &second, CascadeMode::Enforcing).await;
    assert_eq!(done.unwrap().failure_count, 0);
    assert_eq!(cloud.count("zone").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_and_detaching_survive_kill() {
    for place in [
        "AfterOutcome cascade mark run",
        "AfterEffect stop-vm-instance stop-on-hypervisor run",
        "AfterEffect cascade vm-instance run",
        "AfterEffect detach-vm-instance-nic release-nic run",
        "AfterEffect cascade vm-nic run",
        "AfterEffect cascade l3-network run",
    ] {
        let mut cloud = Cloud::prepare().await;
        let mut node = HeldNode::start(NODE, &cloud.config_file(), Some(place)).await;
        cloud.keep_ports(node.public, node.callback);
        let ready = cloud.ready(1).await;
        let made = cloud.create_vm(&ready, "vm-0").await.unwrap();
        let mesh = cloud.mesh();
        let network = plan(&mesh, "l3-network", &ready.l3_network).await.unwrap();
        tokio::select! {
            held = node.held() => assert_eq!(held.held, place),
            executed = execute_plan(&mesh, &network) => {
                panic!("{place} was not held: {executed:?}")
            }
        }
        node.kill().await;
        let node = HeldNode::start(NODE, &cloud.config_file(), None).await;
        let ended = async || {
            let state = state(&now(&cloud, &network).await);
            (state != CascadePlanState::Executing).then_some(state)
        };
        let ended = wait_for("the cascade ends", ended, LIMIT).await;
        assert_eq!(ended, CascadePlanState::Executed, "{place}");
        let stopped = vm(&cloud, &made.uuid).await.state();
        assert_eq!(stopped, VmInstanceState::Stopped, "{place}");
        for noun in ["vm-nic", "l3-network", "ip-range"] {
            assert_eq!(cloud.count(noun).await, 0, "{place}: {noun}");
        }
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_cascades_whatever_can() {
    let (cloud, _, made) = one(1).await;
    let shown = cairn(
        &cloud,
        "l2-network detach-from-cluster it --cluster cluster --plan",
    )
    .await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    for part in ["l2-network-attachment it", "  vm-instance vm-0", "(stop)"] {
        assert!(shown.out.contains(part), "{part} is not in\n{}", shown.out);
    }
    let line = "host enter-maintenance host-0 --cascade --enforce";
    let entered = cairn(&cloud, line).await;
    assert_eq!(entered.code, 0, "{}", entered.err);
    assert_eq!(entered.out, "done; stopped: 1 vm-instance\n");
    let stopped = vm(&cloud, &made.uuid).await.state();
    assert_eq!(stopped, VmInstanceState::Stopped);
    let left = cairn(&cloud, "host leave-maintenance host-0").await;
    assert_eq!(left.code, 0, "{}", left.err);
}
