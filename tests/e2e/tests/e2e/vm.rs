//! The life of virtual machines on simulated hosts.

use std::time::Duration;

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
};
use cairn_simulator::HostSize;
use cairn_testkit::{Database, on_both_databases, wait_until};
use cairn_types::{ErrorCode, Uuid};
use futures::future::join_all;

on_both_databases!(
    multi_thread: it_is_created_stopped_started_rebooted_and_destroyed,
    two_hundred_creations_at_once_leave_exact_books,
);

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

async fn it_is_created_stopped_started_rebooted_and_destroyed(database: Database) {
    let cloud = Cloud::start_on(database).await;
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

async fn two_hundred_creations_at_once_leave_exact_books(database: Database) {
    let cloud = Cloud::start_on(database).await;
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
    cloud.start_agents().await;
    wait_until("running", read, |state| *state == State::Running, limit).await;
    cloud.assert_books(&ready, 1).await;
}

/// By its agent's word with rounds of pings that never come, and by pings that say so while the
/// agent's word does not come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_by_itself_is_seen_to_be_stopped_and_starts_again() {
    for ping_interval_ms in [3_600_000, 50] {
        let mut cloud = Cloud::prepare().await;
        cloud.ping_interval_ms = ping_interval_ms;
        cloud.start_node().await;
        let ready = cloud.ready(1).await;
        let vm = cloud.create_vm(&ready, "web").await.unwrap();
        let vms = VmInstanceClient::new(cloud.mesh());
        let host = ready.site.hosts[0].uuid.parse().unwrap();
        assert!(cloud.simulator.end_vm(host, vm.uuid.parse().unwrap()));
        let read = async || state(&vms, &vm.uuid).await;
        let limit = Duration::from_secs(30);
        wait_until("stopped", read, |state| *state == State::Stopped, limit).await;
        // Its address is still kept for it, and served.
        let now = cloud.host(&ready.site.hosts[0].uuid).await;
        assert_eq!(now.available_memory_bytes, now.memory_bytes);
        let start = StartVmInstanceRequest {
            uuid: vm.uuid.clone(),
        };
        let started = result(vms.start_vm_instance(start).await.unwrap());
        assert_eq!(started.await.unwrap().state(), State::Running);
        cloud.assert_books(&ready, 1).await;
        destroy(&vms, &vm.uuid).await.unwrap();
        cloud.assert_empty(&ready).await;
    }
}

/// A creation may end between a ping's question and its answer: what the host said then is of
/// before. With pings all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_said_before_an_operation_ended_is_not_believed() {
    let mut cloud = Cloud::prepare().await;
    cloud.ping_interval_ms = 10;
    cloud.start_node().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let lives = join_all((0..20).map(|n| {
        let (cloud, ready, vms) = (&cloud, &ready, &vms);
        async move {
            let vm = cloud.create_vm(ready, &format!("vm-{n}")).await.unwrap();
            for _ in 0..3 {
                let stop = StopVmInstanceRequest {
                    uuid: vm.uuid.clone(),
                    grace_secs: None,
                };
                // Refused if it was taken for stopped.
                let stopped = result(vms.stop_vm_instance(stop).await.unwrap()).await;
                assert_eq!(stopped.unwrap().state(), State::Stopped);
                let start = StartVmInstanceRequest {
                    uuid: vm.uuid.clone(),
                };
                let started = result(vms.start_vm_instance(start).await.unwrap()).await;
                assert_eq!(started.unwrap().state(), State::Running);
            }
        }
    }));
    lives.await;
    cloud.assert_books(&ready, 20).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_creation_names_must_be_there() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let missing = Uuid::now_v7().to_string();
    let request = ready.vm_request("web");
    for (field, request) in [
        (
            "image_uuid",
            CreateVmInstanceRequest {
                image_uuid: missing.clone(),
                ..request.clone()
            },
        ),
        (
            "l3_network_uuids",
            CreateVmInstanceRequest {
                l3_network_uuids: vec![missing.clone()],
                ..request.clone()
            },
        ),
        (
            "instance_offering_uuid",
            CreateVmInstanceRequest {
                instance_offering_uuid: missing.clone(),
                ..request.clone()
            },
        ),
        (
            "host_uuid",
            CreateVmInstanceRequest {
                host_uuid: Some(missing.clone()),
                ..request
            },
        ),
    ] {
        let refused = result(vms.create_vm_instance(request).await.unwrap())
            .await
            .unwrap_err();
        let fault = Fault::from_status(&refused);
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{fault:?}");
        assert_eq!(fault.fields[0].0, field, "{fault:?}");
    }
    cloud.assert_empty(&ready).await;
}
