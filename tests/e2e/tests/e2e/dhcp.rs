//! What virtual machines are told of their addresses, by the host that they run on.

use std::collections::{BTreeMap, BTreeSet};

use cairn_agent_protocol::{CommandErrorCode, DhcpLease};
use cairn_e2e::{Cloud, Ready};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteVmInstanceRequest, HostClient, ReconnectHostRequest, StartVmInstanceRequest,
        StopVmInstanceRequest, VmInstance, VmInstanceClient,
    },
    event::result,
    network::v1alpha1::{QueryVmNicRequest, VmNicClient},
};
use cairn_simulator::{Fault as HostFault, FaultEffect};
use cairn_types::ErrorCode;
use futures::future::join_all;

/// The leases that the nics of these virtual machines ask for, by host.
async fn expected(
    cloud: &Cloud,
    ready: &Ready,
    vms: &[(&VmInstance, &str)],
) -> BTreeMap<String, Vec<DhcpLease>> {
    let nics = VmNicClient::new(cloud.mesh());
    let request = QueryVmNicRequest::default();
    let nics = nics.query_vm_nic(request).await.unwrap().vm_nics;
    let hosts = ready.site.hosts.iter();
    let mut leases: BTreeMap<_, _> = hosts.map(|host| (host.uuid.clone(), Vec::new())).collect();
    for (vm, host_name) in vms {
        let mut nics = nics.iter();
        let nic = nics.find(|nic| nic.vm_instance_uuid == vm.uuid).unwrap();
        let on_host = leases.get_mut(vm.host_uuid.as_deref().unwrap()).unwrap();
        on_host.push(DhcpLease {
            mac: nic.mac.clone(),
            ip: nic.ip.clone(),
            host_name: (*host_name).to_owned(),
        });
    }
    for on_host in leases.values_mut() {
        on_host.sort_by(|a, b| a.mac.cmp(&b.mac));
    }
    leases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_serves_just_the_virtual_machines_that_run_on_it() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let web = cloud.create_vm(&ready, "Web 01").await.unwrap();
    let only = expected(&cloud, &ready, &[(&web, "web-01")]).await;
    assert_eq!(cloud.leases(), only);
    let host = cloud.simulator.hosts().remove(0);
    let served = &host.dhcp["br_eth0"].subnets[0];
    assert_eq!(
        (&*served.gateway, served.prefix_length),
        ("10.1.0.1", 16),
        "{served:?}"
    );
    assert_ne!(served.address, served.leases[0].ip);

    let db = cloud.create_vm(&ready, "数据库").await.unwrap();
    let unnamed = format!("vm-{}", &db.uuid[..8]);
    let both = expected(&cloud, &ready, &[(&web, "web-01"), (&db, &unnamed)]).await;
    assert_eq!(cloud.leases(), both);

    let uuid = db.uuid.clone();
    let stop = StopVmInstanceRequest {
        uuid: uuid.clone(),
        grace_secs: None,
    };
    result(vms.stop_vm_instance(stop).await.unwrap())
        .await
        .unwrap();
    assert_eq!(cloud.leases(), only);
    let start = StartVmInstanceRequest { uuid };
    result(vms.start_vm_instance(start).await.unwrap())
        .await
        .unwrap();
    assert_eq!(cloud.leases(), both);

    for uuid in [db.uuid, web.uuid] {
        let delete = DeleteVmInstanceRequest { uuid };
        result(vms.delete_vm_instance(delete).await.unwrap())
            .await
            .unwrap();
    }
    cloud.assert_empty(&ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_be_prepared_is_rolled_back_and_says_by_whom() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let fail = |message: &str| {
        cloud.simulator.inject(HostFault {
            command: Some("apply-dhcp".into()),
            times: Some(1),
            ..HostFault::new(FaultEffect::Fail {
                code: CommandErrorCode::Failed,
                message: message.to_owned(),
            })
        });
    };
    fail("no address");
    let fault = cloud.create_vm(&ready, "web").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentFailed);
    assert!(fault.message.starts_with("flat-dhcp: "), "{fault:?}");
    assert!(fault.message.contains("no address"), "{fault:?}");
    assert_eq!(fault.rolled_back.first().unwrap(), "instantiate-pre");
    cloud.assert_empty(&ready).await;

    // What a stop cannot give up at first it gives up later.
    let vm = cloud.create_vm(&ready, "web").await.unwrap();
    fail("not now");
    let vms = VmInstanceClient::new(cloud.mesh());
    let stop = StopVmInstanceRequest {
        uuid: vm.uuid,
        grace_secs: None,
    };
    result(vms.stop_vm_instance(stop).await.unwrap())
        .await
        .unwrap();
    cloud.assert_books(&ready, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_serve_all_of_many_that_come_at_once_and_a_host_that_connects_is_told_again() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(2).await;
    let created = join_all((0..20).map(|_| cloud.create_vm(&ready, "web"))).await;
    let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    let named: Vec<_> = created.iter().map(|vm| (vm, "web")).collect();
    let all = expected(&cloud, &ready, &named).await;
    assert_eq!(cloud.leases(), all);
    let hosts = cloud.simulator.hosts();
    let servers = hosts
        .iter()
        .map(|host| &host.dhcp["br_eth0"].subnets[0].address);
    let servers: BTreeSet<_> = servers.collect();
    assert_eq!(servers.len(), 2, "an address for each host: {servers:?}");

    let told = || {
        let records = cloud.simulator.records().into_iter();
        records.filter(|it| it.command == "apply-dhcp").count()
    };
    let before = told();
    let request = ReconnectHostRequest {
        uuid: ready.site.hosts[0].uuid.clone(),
    };
    let hosts = HostClient::new(cloud.mesh());
    result(hosts.reconnect_host(request).await.unwrap())
        .await
        .unwrap();
    // As often as it connects.
    assert!(told() > before);
    assert_eq!(cloud.leases(), all);
}
