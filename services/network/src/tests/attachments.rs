//! Which clusters have which networks, and which they cannot have together.

use cairn_proto::network::{
    internal::v1alpha1::GetClustersRequest,
    v1alpha1::{
        AttachL2NetworkToClusterRequest, CreateL2NetworkRequest, DeleteL2NetworkRequest,
        DetachL2NetworkFromClusterRequest,
    },
};
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;

use super::*;

on_both_databases!(
    wrong_fields_are_named,
    a_network_is_attached_once_and_in_its_zone,
    an_interface_of_a_cluster_carries_one_network,
    nics_of_what_does_not_run_let_their_network_go,
    a_host_that_gets_no_bridge_fails_the_attachment,
    clusters_are_those_that_have_every_network,
);

async fn attach(fixture: &Fixture, network: &L2Network, cluster: &str) -> Result<L2Network, Fault> {
    let request = AttachL2NetworkToClusterRequest {
        uuid: network.uuid.clone(),
        cluster_uuid: cluster.to_owned(),
    };
    ended(fixture.l2.attach_l2_network_to_cluster(request)).await
}

async fn detach(fixture: &Fixture, network: &L2Network, cluster: &str) -> Result<L2Network, Fault> {
    let request = DetachL2NetworkFromClusterRequest {
        uuid: network.uuid.clone(),
        cluster_uuid: cluster.to_owned(),
    };
    ended(fixture.l2.detach_l2_network_from_cluster(request)).await
}

async fn clusters(fixture: &Fixture, networks: &[&L3Network]) -> Result<Vec<String>, Fault> {
    let l3_network_uuids = networks
        .iter()
        .map(|network| network.uuid.clone())
        .collect();
    let request = GetClustersRequest { l3_network_uuids };
    let found = fixture.internal.get_clusters(request).await;
    let found = found.map_err(|status| Fault::from_status(&status))?;
    Ok(found.cluster_uuids)
}

async fn wrong_fields_are_named(database: Database) {
    let fixture = Fixture::new(database).await;
    let request = CreateL2NetworkRequest {
        name: "wire".to_owned(),
        zone_uuid: fixture.zone.clone(),
        physical_interface: "eth 0".to_owned(),
        ..CreateL2NetworkRequest::default()
    };
    let fault = ended(fixture.l2.create_l2_network(request))
        .await
        .unwrap_err();
    let fields: Vec<_> = fault
        .fields
        .iter()
        .map(|(f, p)| format!("{f} {p}"))
        .collect();
    let expected = [
        "type is missing; give one of NoVlan",
        "physical_interface is `eth 0`; give 1 to 15 of the characters a-z, A-Z, 0-9, `.`, `_` \
         and `-`, as in eth0",
    ];
    assert_eq!(fields, expected);
}

async fn a_network_is_attached_once_and_in_its_zone(database: Database) {
    let fixture = Fixture::new(database).await;
    let network = fixture.l2_network("eth0").await;
    for _ in 0..2 {
        attach(&fixture, &network, &fixture.cluster).await.unwrap();
        assert_eq!(fixture.count("l2_network_attachment").await, 1);
    }
    let (zone, cluster) = (uuid(), uuid());
    fixture.cluster(&cluster, &zone).await;
    let fault = attach(&fixture, &network, &cluster).await.unwrap_err();
    assert_eq!(fault.fields[0].0, "cluster_uuid");
    let fault = detach(&fixture, &network, &cluster).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);

    let uuid = network.uuid.clone();
    let delete = DeleteL2NetworkRequest { uuid };
    let fault = ended(fixture.l2.delete_l2_network(delete.clone()))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    detach(&fixture, &network, &fixture.cluster).await.unwrap();
    ended(fixture.l2.delete_l2_network(delete)).await.unwrap();
}

async fn an_interface_of_a_cluster_carries_one_network(database: Database) {
    let fixture = Fixture::new(database).await;
    let (one, two) = (
        fixture.l2_network("eth0").await,
        fixture.l2_network("eth0").await,
    );
    attach(&fixture, &one, &fixture.cluster).await.unwrap();
    let fault = attach(&fixture, &two, &fixture.cluster).await.unwrap_err();
    let expected = format!(
        "cluster {} has bridge br_eth0 for l2-network {}, and an interface carries one network \
         without VLAN; detach that one first",
        fixture.cluster, one.uuid
    );
    assert_eq!((fault.code, fault.message), (ErrorCode::InUse, expected));
    let other = uuid();
    fixture.cluster(&other, &fixture.zone).await;
    attach(&fixture, &two, &other).await.unwrap();
    detach(&fixture, &one, &fixture.cluster).await.unwrap();
    attach(&fixture, &two, &fixture.cluster).await.unwrap();
}

async fn nics_of_what_does_not_run_let_their_network_go(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let network = fixture.l3_network(&carrier).await;
    fixture
        .range(&network, "10.0.0.10", "10.0.0.20")
        .await
        .unwrap();
    attach(&fixture, &carrier, &fixture.cluster).await.unwrap();
    let request = fixture.allocation(&network);
    fixture.allocate(request.clone()).await.unwrap();
    detach(&fixture, &carrier, &fixture.cluster).await.unwrap();
    assert_eq!(fixture.count("cluster_bridge").await, 0);
    assert_eq!(fixture.count("vm_nic").await, 1);
    assert_eq!(clusters(&fixture, &[&network]).await.unwrap(), [""; 0]);
    attach(&fixture, &carrier, &fixture.cluster).await.unwrap();
    let found = clusters(&fixture, &[&network]).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&fixture.cluster));
}

async fn a_host_that_gets_no_bridge_fails_the_attachment(database: Database) {
    let fixture = Fixture::new(database).await;
    let host = fixture.host().await;
    let (network, other) = (
        fixture.l2_network("eth0").await,
        fixture.l2_network("eth0").await,
    );
    let fault = attach(&fixture, &network, &fixture.cluster)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentUnreachable);
    assert_eq!(fault.resource, Some(("host".to_owned(), host.to_string())));
    assert_eq!(fixture.count("l2_network_attachment").await, 0);
    // Whether the host has the bridge nobody knows, so the network keeps it until it goes.
    let fault = attach(&fixture, &other, &fixture.cluster)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    let delete = DeleteL2NetworkRequest { uuid: network.uuid };
    ended(fixture.l2.delete_l2_network(delete)).await.unwrap();
    let fault = attach(&fixture, &other, &fixture.cluster)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentUnreachable);
}

async fn clusters_are_those_that_have_every_network(database: Database) {
    let fixture = Fixture::new(database).await;
    let (one, two) = (
        fixture.l2_network("eth0").await,
        fixture.l2_network("eth1").await,
    );
    let a = fixture.l3_network(&one).await;
    let b = fixture.l3_network(&one).await;
    let c = fixture.l3_network(&two).await;
    let other = uuid();
    fixture.cluster(&other, &fixture.zone).await;
    attach(&fixture, &one, &fixture.cluster).await.unwrap();
    attach(&fixture, &two, &fixture.cluster).await.unwrap();
    attach(&fixture, &two, &other).await.unwrap();
    let here = &fixture.cluster;
    assert_eq!(
        clusters(&fixture, &[&a]).await.as_ref(),
        Ok(&vec![here.clone()])
    );
    assert_eq!(clusters(&fixture, &[&c]).await.unwrap().len(), 2);
    assert_eq!(
        clusters(&fixture, &[&a, &b, &c, &a]).await.as_ref(),
        Ok(&vec![here.clone()])
    );
    let unknown = L3Network {
        uuid: uuid(),
        ..L3Network::default()
    };
    let fault = clusters(&fixture, &[&a, &unknown]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::NotFound);
    let fault = clusters(&fixture, &[]).await.unwrap_err();
    assert_eq!(fault.fields[0].0, "l3_network_uuids");
}
