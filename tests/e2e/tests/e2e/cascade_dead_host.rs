//! A host that will never answer again: it and what was on it can be got rid of all the same, and
//! nothing waits for it for ever.

use std::time::Duration;

use cairn_e2e::{Cloud, GONE_HOST, HeldHost, HeldNode, Ready, execute_plan_in, host_in, plan};
use cairn_proto::{
    cascade::v1alpha1::{
        CascadeMode, CascadePlan, CascadePlanClient, CascadePlanState, GetCascadePlanRequest,
        GetCascadePlanResponse,
    },
    compute::v1alpha1::{
        CreateVmInstanceRequest, DeleteVmInstanceRequest, GetVmInstanceRequest, HostStatus,
        VmInstanceClient, VmInstanceState as State,
    },
    event::result,
    fault::Fault,
};
use cairn_testkit::{Database, on_both_databases, wait_for, wait_until};
use cairn_types::ErrorCode;

use crate::cascade::held_cloud;

const LIMIT: Duration = Duration::from_secs(30);
const AGENT: &str = env!("CARGO_BIN_EXE_held-agent");
const NODE: &str = env!("CARGO_BIN_EXE_held-node");

on_both_databases! { multi_thread:
    a_host_that_burned_down_goes_with_all_that_was_on_it,
}

async fn enforce(cloud: &Cloud, noun: &str, uuid: &str) -> Result<CascadePlan, Fault> {
    let plan = plan(&cloud.mesh(), noun, uuid).await.unwrap();
    execute_plan_in(&cloud.mesh(), &plan, CascadeMode::Enforcing).await
}

async fn create_on(cloud: &Cloud, ready: &Ready, name: &str, host: &str) -> String {
    let request = CreateVmInstanceRequest {
        host_uuid: Some(host.to_owned()),
        ..ready.vm_request(name)
    };
    let vms = VmInstanceClient::new(cloud.mesh());
    let created = result(vms.create_vm_instance(request).await.unwrap()).await;
    created.unwrap().uuid
}

async fn delete_vm(cloud: &Cloud, uuid: &str) -> Result<(), Fault> {
    let uuid = uuid.to_owned();
    let vms = VmInstanceClient::new(cloud.mesh());
    let deleting = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    let deleted = result(deleting.await.unwrap()).await;
    deleted
        .map(|_| ())
        .map_err(|status| Fault::from_status(&status))
}

async fn state(cloud: &Cloud, uuid: &str) -> State {
    let vms = VmInstanceClient::new(cloud.mesh());
    let uuid = uuid.to_owned();
    let found = vms.get_vm_instance(GetVmInstanceRequest { uuid }).await;
    found.unwrap().vm_instance.unwrap().state()
}

async fn counts<const N: usize>(cloud: &Cloud, nouns: [&str; N]) -> [u64; N] {
    let mut counts = [0; N];
    for (count, noun) in counts.iter_mut().zip(nouns) {
        *count = cloud.count(noun).await;
    }
    counts
}

async fn a_host_that_burned_down_goes_with_all_that_was_on_it(database: Database) {
    let cloud = Cloud::start_on(database).await;
    let ready = cloud.ready(1).await;
    let stays = create_on(&cloud, &ready, "stays", &ready.site.hosts[0].uuid).await;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("host");
    let mut host = HeldHost::add(AGENT, &cloud.mesh(), &ready.site.cluster, at).await;
    host.start().await;
    let dead = host_in(&cloud.mesh(), &host.uuid, HostStatus::Connected).await;
    let mut vms = Vec::new();
    for name in ["vm-0", "vm-1", "vm-2", "vm-3"] {
        vms.push(create_on(&cloud, &ready, name, &dead.uuid).await);
    }
    host.kill().await;
    host_in(&cloud.mesh(), &dead.uuid, HostStatus::Disconnected).await;

    // One was deleted before anybody thought of the host.
    let left = delete_vm(&cloud, &vms[0]).await.unwrap_err();
    assert_eq!(left.code, ErrorCode::LeftToGc, "{left:?}");
    // Permissive, a host that does not answer stands against it.
    let permissive = plan(&cloud.mesh(), "host", &dead.uuid).await.unwrap();
    let refused = execute_plan_in(&cloud.mesh(), &permissive, CascadeMode::Permissive).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.contains("vm-instance"), "{refused:?}");
    assert_eq!(cloud.count("host").await, 2);
    for vm in &vms {
        // None is under way without a job that goes on with it.
        let is_destroying = state(&cloud, vm).await == State::Destroying;
        let condition = format!("query gc-job resourceUuid={vm} --count");
        let jobs = crate::cli::cairn(&cloud, &condition).await.out;
        assert_eq!(jobs.trim(), if is_destroying { "1" } else { "0" }, "{vm}");
    }

    let gone = enforce(&cloud, "host", &dead.uuid).await.unwrap();
    assert_eq!(gone.state(), CascadePlanState::Executed);
    assert_eq!(gone.failure_count, 0);
    let nouns = ["host", "vm-instance", "vm-nic", "volume", "gc-job"];
    assert_eq!(counts(&cloud, nouns).await, [1, 1, 1, 1, 0]);
    assert_eq!(state(&cloud, &stays).await, State::Running);
    cloud.assert_books(&ready, 1).await;
    // Its addresses are free, its names too.
    create_on(&cloud, &ready, "vm-0", &ready.site.hosts[0].uuid).await;
    cloud.assert_books(&ready, 2).await;
}

/// A cloud with two virtual machines on a host that does not answer any more.
async fn burned_down() -> (Cloud, Ready, Vec<String>) {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let mut vms = Vec::new();
    for name in ["vm-0", "vm-1"] {
        vms.push(cloud.create_vm(&ready, name).await.unwrap().uuid);
    }
    cloud.stop_agents().await;
    let host = &ready.site.hosts[0].uuid;
    cloud.host_in(host, HostStatus::Disconnected).await;
    // Nobody takes away what a machine has that is not of the cloud any more.
    cloud.leaves(&[GONE_HOST]);
    (cloud, ready, vms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_goes_though_its_host_burned_down() {
    let (cloud, ready, vms) = burned_down().await;
    delete_vm(&cloud, &vms[0]).await.unwrap_err();
    let gone = enforce(&cloud, "zone", &ready.site.zone).await.unwrap();
    assert_eq!(gone.state(), CascadePlanState::Executed);
    let nouns = ["zone", "cluster", "host", "vm-instance", "vm-nic", "volume"];
    assert_eq!(counts(&cloud, nouns).await, [0; 6]);
    let nouns = ["primary-storage", "l2-network", "ip-range", "gc-job"];
    assert_eq!(counts(&cloud, nouns).await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_host_that_stays_is_left_with_its_job_until_that_goes_too() {
    let (cloud, ready, vms) = burned_down().await;
    let storage = &ready.primary_storage;
    let left = enforce(&cloud, "primary-storage", storage).await;
    let left = left.unwrap_err();
    assert_eq!(left.code, ErrorCode::CascadeIncomplete, "{left:?}");
    assert!(left.message.contains("gc-job"), "{}", left.message);
    assert_eq!(cloud.count("primary-storage").await, 1);
    assert_eq!(cloud.count("gc-job").await, 2);
    for vm in &vms {
        assert_eq!(state(&cloud, vm).await, State::Destroying);
    }
    let host = &ready.site.hosts[0].uuid;
    enforce(&cloud, "host", host).await.unwrap();
    let nouns = ["host", "vm-instance", "vm-nic", "volume", "gc-job"];
    assert_eq!(counts(&cloud, nouns).await, [0; 5]);
    enforce(&cloud, "primary-storage", storage).await.unwrap();
    assert_eq!(cloud.count("primary-storage").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_leaves_nothing_that_waits_for_ever() {
    for place in [
        "AfterOutcome cascade mark run",
        "AfterOutcome expunge-vm-instance enter-expunging run",
        "BeforeIntent delete-host release-storages run",
        "AfterEffect cascade host run",
        "AfterEffect cascade vm-instance run",
    ] {
        let (mut cloud, mut node, ready) = held_cloud(place).await;
        cloud.stop_agents().await;
        let host = &ready.site.hosts[0].uuid;
        cloud.host_in(host, HostStatus::Disconnected).await;
        let mesh = cloud.mesh();
        let plan = plan(&mesh, "host", host).await.unwrap();
        tokio::select! {
            held = node.held() => assert_eq!(held.held, place),
            executed = execute_plan_in(&mesh, &plan, CascadeMode::Enforcing) => {
                panic!("{place} was not held: {executed:?}")
            }
        }
        node.kill().await;

        let node = HeldNode::start(NODE, &cloud.config_file(), None).await;
        let state = wait_for(
            "the cascade ends",
            async || ended(&cloud, &plan).await,
            LIMIT,
        )
        .await;
        assert_eq!(state, CascadePlanState::Executed, "{place}");
        let nouns = ["host", "vm-instance", "vm-nic", "volume", "gc-job"];
        let left = async || counts(&cloud, nouns).await;
        wait_until(place, left, |left| *left == [0; 5], LIMIT).await;
        cloud.leaves(&[GONE_HOST]);
        node.kill().await;
    }
}

async fn ended(cloud: &Cloud, plan: &GetCascadePlanResponse) -> Option<CascadePlanState> {
    let plans = CascadePlanClient::new(cloud.mesh());
    let request = GetCascadePlanRequest {
        uuid: plan.cascade_plan.clone().unwrap().uuid,
        limit: Some(0),
        ..Default::default()
    };
    let found = plans.get_cascade_plan(request).await.unwrap();
    let state = found.cascade_plan.unwrap().state();
    (state != CascadePlanState::Executing).then_some(state)
}
