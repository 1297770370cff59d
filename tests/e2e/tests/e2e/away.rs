//! What hosts keep that were away when something was taken from them: it goes when they are back.

use std::time::Duration;

use cairn_e2e::{Cloud, GONE_HOST, Ready, examine};
use cairn_proto::{
    compute::v1alpha1::{
        DeleteHostRequest, DeleteVmInstanceRequest, HostClient, HostStatus, VmInstanceClient,
    },
    doctor::v1alpha1::{DoctorClient, FixFindingRequest, FixOutcome},
    event::result,
    network::v1alpha1::{
        AttachL2NetworkToClusterRequest, CreateL2NetworkRequest, DeleteL2NetworkRequest,
        DetachL2NetworkFromClusterRequest, L2Network, L2NetworkClient, L2NetworkType,
    },
    operation::v1alpha1::GcJob,
    storage::v1alpha1::{DeleteImageRequest, ImageClient},
};
use cairn_simulator::HostState;
use cairn_testkit::wait_until;

const LIMIT: Duration = Duration::from_secs(30);

fn state(cloud: &Cloud, host: &str) -> HostState {
    let hosts = cloud.simulator.hosts().into_iter();
    let mut hosts = hosts.filter(|it| it.host.to_string() == host);
    hosts.next().unwrap()
}

async fn jobs(cloud: &Cloud) -> Vec<GcJob> {
    cloud.store().list("", Vec::new()).await.unwrap()
}

async fn no_jobs(cloud: &Cloud) {
    let jobs = async || jobs(cloud).await;
    wait_until("no job is left", jobs, Vec::is_empty, LIMIT).await;
}

/// A cloud whose hosts are away, and whose network was detached then.
async fn detached_while_hosts_are_away() -> (Cloud, Ready, L2Network) {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(2).await;
    cloud.stop_agents().await;
    for host in &ready.site.hosts {
        cloud.host_in(&host.uuid, HostStatus::Disconnected).await;
    }
    let networks: Vec<L2Network> = cloud.store().list("", Vec::new()).await.unwrap();
    let detach = DetachL2NetworkFromClusterRequest {
        uuid: networks[0].uuid.clone(),
        cluster_uuid: ready.site.cluster.clone(),
    };
    let client = L2NetworkClient::new(cloud.mesh());
    let detached = client.detach_l2_network_from_cluster(detach).await.unwrap();
    result(detached).await.unwrap();
    let left = async || jobs(&cloud).await;
    let two = |jobs: &Vec<GcJob>| jobs.len() == 2;
    let left = wait_until("a job for each host", left, two, LIMIT).await;
    let mut waits: Vec<_> = left.iter().map(|job| job.waits_for_uuid.clone()).collect();
    waits.sort();
    let mut hosts: Vec<_> = ready
        .site
        .hosts
        .iter()
        .map(|it| Some(it.uuid.clone()))
        .collect();
    hosts.sort();
    assert_eq!(waits, hosts);
    (cloud, ready, networks.into_iter().next().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_back_loses_the_bridge_of_a_network_that_is_gone() {
    let (mut cloud, ready, network) = detached_while_hosts_are_away().await;
    for host in &ready.site.hosts {
        assert!(state(&cloud, &host.uuid).bridges.contains_key("br_eth0"));
    }
    // The network may be gone by then, and the process another one.
    for sql in [
        "DELETE FROM ip_range",
        "DELETE FROM free_address",
        "DELETE FROM l3_network",
    ] {
        let written = cloud
            .store()
            .write(move |tx| Box::pin(async move { tx.execute(sql, Vec::new()).await }));
        let _: u64 = written
            .await
            .map_err(|it: cairn_store::StoreError| it)
            .unwrap();
    }
    let client = L2NetworkClient::new(cloud.mesh());
    let uuid = network.uuid;
    let deleted = client.delete_l2_network(DeleteL2NetworkRequest { uuid });
    result(deleted.await.unwrap()).await.unwrap();
    cloud.stop_node().await;
    cloud.start_node().await;
    cloud.start_agents().await;
    no_jobs(&cloud).await;
    for host in &ready.site.hosts {
        assert!(state(&cloud, &host.uuid).bridges.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_wanted_again_stays() {
    let (mut cloud, ready, network) = detached_while_hosts_are_away().await;
    let client = L2NetworkClient::new(cloud.mesh());
    let create = CreateL2NetworkRequest {
        name: "another".to_owned(),
        zone_uuid: network.zone_uuid.clone(),
        physical_interface: network.physical_interface.clone(),
        r#type: L2NetworkType::NoVlan.into(),
        ..Default::default()
    };
    let created = client.create_l2_network(create).await.unwrap();
    let another = result(created).await.unwrap();
    let attach = AttachL2NetworkToClusterRequest {
        uuid: another.uuid,
        cluster_uuid: ready.site.cluster.clone(),
    };
    let attached = client.attach_l2_network_to_cluster(attach).await.unwrap();
    result(attached).await.unwrap();
    cloud.start_agents().await;
    no_jobs(&cloud).await;
    for host in &ready.site.hosts {
        assert!(state(&cloud, &host.uuid).bridges.contains_key("br_eth0"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_back_loses_the_copy_of_an_image_that_is_gone() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let uuid = cloud.create_vm(&ready, "web").await.unwrap().uuid;
    let deleted = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    result(deleted.await.unwrap()).await.unwrap();
    let host = &ready.site.hosts[0].uuid;
    assert_eq!(state(&cloud, host).images.len(), 1);
    cloud.stop_agents().await;
    cloud.host_in(host, HostStatus::Disconnected).await;
    let images = ImageClient::new(cloud.mesh());
    let uuid = ready.image.clone();
    let deleted = images.delete_image(DeleteImageRequest { uuid });
    result(deleted.await.unwrap()).await.unwrap();
    let left = async || jobs(&cloud).await;
    let one = |jobs: &Vec<GcJob>| jobs.len() == 1;
    let left = wait_until("a job for the host", left, one, LIMIT).await;
    assert_eq!(left[0].waits_for_uuid.as_ref(), Some(host));
    cloud.start_agents().await;
    no_jobs(&cloud).await;
    assert!(state(&cloud, host).images.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_added_again_is_cleared_of_what_it_had() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let vms = VmInstanceClient::new(cloud.mesh());
    let uuid = cloud.create_vm(&ready, "web").await.unwrap().uuid;
    let host = ready.site.hosts[0].uuid.clone();
    let had = state(&cloud, &host);
    let deleted = vms.delete_vm_instance(DeleteVmInstanceRequest { uuid });
    result(deleted.await.unwrap()).await.unwrap();
    cloud.stop_agents().await;
    cloud.host_in(&host, HostStatus::Disconnected).await;
    let hosts = HostClient::new(cloud.mesh());
    let deleted = hosts.delete_host(DeleteHostRequest { uuid: host });
    result(deleted.await.unwrap()).await.unwrap();
    cloud.start_agents().await;

    // The same machine: it has all that it ever had.
    let again = cloud.add_host(&ready.site.cluster, "again").await;
    cloud.connected(&again).await;
    cloud.simulator.tamper(again.parse().unwrap(), |state| {
        let HostState {
            vms,
            volumes,
            images,
            dhcp,
            ..
        } = had;
        (state.vms, state.volumes, state.images, state.dhcp) = (vms, volumes, images, dhcp);
        let (bridge, over) = ("br_eth7".to_owned(), "eth7".to_owned());
        state.bridges.insert(bridge, over);
    });
    let found = examine(&cloud.mesh()).await.unwrap().findings;
    let mut kinds: Vec<_> = found.iter().map(|it| &*it.kind).collect();
    kinds.dedup();
    let expected = [
        "vm-process",
        "bridge",
        "tap",
        "dhcp-server",
        "bridge-address",
        "volume-file",
        "image-file",
    ];
    for kind in expected {
        assert!(kinds.contains(&kind), "no {kind}: {found:?}");
    }
    let doctor = DoctorClient::new(cloud.mesh());
    for finding in found {
        let fix = FixFindingRequest {
            queue_uuid: finding.queue_uuid.clone(),
            queue_type: finding.queue_type.clone(),
            kind: finding.kind.clone(),
            problem: finding.problem,
            host_uuid: Some(finding.host_uuid.clone()),
            identity: finding.identity.clone(),
            ..FixFindingRequest::default()
        };
        let fixed = result(doctor.fix_finding(fix).await.unwrap()).await;
        let outcome = fixed.unwrap().outcome();
        assert!(
            matches!(outcome, FixOutcome::Fixed | FixOutcome::Gone),
            "{finding:?}"
        );
    }
    assert_eq!(examine(&cloud.mesh()).await.unwrap().findings, []);
    let is = state(&cloud, &again);
    assert!(is.vms.is_empty() && is.volumes.is_empty() && is.images.is_empty());
    assert_eq!(is.bridges.keys().collect::<Vec<_>>(), ["br_eth0"]);
    cloud.create_vm(&ready, "afterwards").await.unwrap();
    cloud.leaves(&[GONE_HOST]);
}
