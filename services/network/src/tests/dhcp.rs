//! The rows behind DHCP: what is to be served follows from them, and addresses come back.

use cairn_agent_protocol::ApplyDhcp;
use cairn_proto::network::v1alpha1::DeleteIpRangeRequest;
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;

use super::*;
use crate::dhcp::rows::{self, Lease};

on_both_databases!(
    each_revision_is_all_of_it_and_addresses_come_back_with_the_last,
    a_host_that_has_the_rest_is_told_what_was_added,
    networks_on_one_wire_are_subnets_of_one_bridge,
    a_server_needs_an_address_and_keeps_its_range,
);

impl Fixture {
    async fn lease(&self, network: &L3Network, vm: &str) -> Lease {
        let nic = self.allocate(self.allocation(network)).await.unwrap();
        let row = nic.vm_nic.unwrap();
        Lease {
            nic: row.uuid,
            vm: vm.to_owned(),
            bridge: nic.bridge,
            l3_network: row.l3_network_uuid,
            gateway: row.gateway,
            prefix_length: row.prefix_length,
            mac: row.mac,
            ip: row.ip,
            host_name: vm.to_owned(),
        }
    }

    async fn add(&self, host: HostUuid, leases: &[Lease]) -> Result<Vec<ApplyDhcp>, Fault> {
        let leases = leases.to_vec();
        let added = self.store.write(move |tx| {
            let leases = leases.clone();
            Box::pin(async move { rows::add(tx, host, &leases).await })
        });
        added.await
    }

    async fn remove(&self, host: HostUuid, vm: &'static str) -> Vec<ApplyDhcp> {
        let removed = self
            .store
            .write(move |tx| Box::pin(async move { rows::remove(tx, host, vm).await }));
        removed.await.unwrap()
    }

    async fn settle(&self, host: HostUuid, command: &ApplyDhcp) {
        let (bridge, revision) = (command.bridge.clone(), command.revision);
        let settled = self.store.write(move |tx| {
            let bridge = bridge.clone();
            Box::pin(async move { rows::settle(tx, host, &bridge, revision).await })
        });
        settled.await.unwrap();
    }
}

/// The addresses of the servers, and of those whom they serve.
fn served(command: &ApplyDhcp) -> Vec<(&str, Vec<&str>)> {
    let subnets = command.subnets.iter().map(|subnet| {
        let leases = subnet.leases.iter().map(|lease| &*lease.ip);
        (&*subnet.address, leases.collect())
    });
    subnets.collect()
}

async fn each_revision_is_all_of_it_and_addresses_come_back_with_the_last(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let network = fixture.l3_network(&carrier).await;
    fixture
        .range(&network, "10.0.0.10", "10.0.0.19")
        .await
        .unwrap();
    let (here, there) = (HostUuid::generate(), HostUuid::generate());
    let a = fixture.lease(&network, "a").await;
    let b = fixture.lease(&network, "b").await;
    let c = fixture.lease(&network, "c").await;

    let first = fixture.add(here, std::slice::from_ref(&a)).await.unwrap();
    assert_eq!(served(&first[0]), [("10.0.0.13", vec!["10.0.0.10"])]);
    // A repeat is the same, later.
    let again = fixture.add(here, &[a]).await.unwrap();
    assert_eq!(served(&again[0]), served(&first[0]));
    assert_eq!((first[0].revision, again[0].revision), (1, 2));
    let both = fixture.add(here, &[b]).await.unwrap();
    assert_eq!(served(&both[0])[0].1.len(), 2);
    let other = fixture.add(there, &[c]).await.unwrap();
    assert_eq!(other[0].revision, 1);
    assert_eq!(served(&other[0]), [("10.0.0.14", vec!["10.0.0.12"])]);

    let less = fixture.remove(here, "a").await.remove(0);
    assert_eq!(served(&less), [("10.0.0.13", vec!["10.0.0.11"])]);
    let none = fixture.remove(here, "b").await.remove(0);
    assert_eq!(served(&none), []);
    // The host may still serve from the address, as what it was told before says.
    fixture.settle(here, &less).await;
    assert_eq!(fixture.count("dhcp_server").await, 2);
    // Nobody is there any more, and the host is not known to know that.
    let repeat = fixture.remove(here, "b").await.remove(0);
    assert_eq!((repeat.revision, repeat.subnets.len()), (6, 0));
    fixture.settle(here, &none).await;
    assert_eq!(fixture.count("dhcp_server").await, 2);
    fixture.settle(here, &repeat).await;
    assert_eq!(fixture.count("dhcp_server").await, 1);
    assert_eq!(fixture.remove(here, "b").await, []);
    let free = fixture.free().await;
    assert_eq!(free[0], ("10.0.0.13".to_owned(), "10.0.0.13".to_owned()));
}

async fn a_host_that_has_the_rest_is_told_what_was_added(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let network = fixture.l3_network(&carrier).await;
    fixture
        .range(&network, "10.0.0.10", "10.0.0.29")
        .await
        .unwrap();
    let host = HostUuid::generate();
    let mut leases = Vec::new();
    for vm in ["a", "b", "c", "d", "e"] {
        leases.push(fixture.lease(&network, vm).await);
    }
    let [a, b, c, d, e] = leases.try_into().unwrap();
    let add = async |lease: &Lease| {
        let mut wanted = fixture
            .add(host, std::slice::from_ref(lease))
            .await
            .unwrap();
        let command = wanted.remove(0);
        let ips = command.subnets.iter().flat_map(|subnet| &subnet.leases);
        let mut ips: Vec<_> = ips.map(|lease| lease.ip.clone()).collect();
        ips.sort();
        (command.revision, command.since, ips, command)
    };
    let ip = |lease: &Lease| lease.ip.clone();

    let (revision, since, ips, first) = add(&a).await;
    assert_eq!((revision, since, ips), (1, None, vec![ip(&a)]));
    fixture.settle(host, &first).await;
    let (revision, since, ips, second) = add(&b).await;
    assert_eq!((revision, since, ips), (2, Some(1), vec![ip(&b)]));
    // The host is not known to have the second yet.
    let (revision, since, ips, third) = add(&c).await;
    assert_eq!((revision, since, ips), (3, Some(1), vec![ip(&b), ip(&c)]));
    // Whatever comes first, all of it is there in the end.
    for order in [[&second, &third], [&third, &second]] {
        let (mut revision, mut subnets) = (1, first.subnets.clone());
        for command in order {
            if command.revision >= revision {
                let whole = command.clone().whole(revision, &subnets).unwrap();
                (revision, subnets) = (whole.revision, whole.subnets);
            }
        }
        assert_eq!((revision, subnets[0].leases.len()), (3, 3));
    }
    fixture.settle(host, &third).await;

    // What is taken away is not in what is added.
    let less = fixture.remove(host, "b").await.remove(0);
    assert_eq!((less.since, served(&less)[0].1.len()), (None, 2));
    let (_, since, ips, fifth) = add(&d).await;
    assert_eq!((since, ips), (None, vec![ip(&a), ip(&c), ip(&d)]));
    fixture.settle(host, &fifth).await;
    let (_, since, ips, _) = add(&e).await;
    assert_eq!((since, ips), (Some(5), vec![ip(&e)]));
}

async fn networks_on_one_wire_are_subnets_of_one_bridge(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let one = fixture.l3_network(&carrier).await;
    let two = fixture.l3_network(&carrier).await;
    fixture.range(&one, "10.0.0.10", "10.0.0.19").await.unwrap();
    fixture.range(&two, "10.0.1.10", "10.0.1.19").await.unwrap();
    let leases = [
        fixture.lease(&one, "a").await,
        fixture.lease(&two, "a").await,
    ];
    let host = HostUuid::generate();
    let wanted = fixture.add(host, &leases).await.unwrap();
    assert_eq!(wanted.len(), 1);
    let expected = [
        ("10.0.0.11", vec!["10.0.0.10"]),
        ("10.0.1.11", vec!["10.0.1.10"]),
    ];
    assert_eq!(served(&wanted[0]), expected);
}

async fn a_server_needs_an_address_and_keeps_its_range(database: Database) {
    let fixture = Fixture::new(database).await;
    let carrier = fixture.l2_network("eth0").await;
    let network = fixture.l3_network(&carrier).await;
    fixture
        .range(&network, "10.0.0.10", "10.0.0.10")
        .await
        .unwrap();
    let lease = fixture.lease(&network, "a").await;
    let host = HostUuid::generate();
    let refused = fixture.add(host, std::slice::from_ref(&lease)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::OutOfCapacity);
    assert_eq!(fixture.count("dhcp_lease").await, 0);

    let range = fixture.range(&network, "10.0.0.20", "10.0.0.29").await;
    let uuid = range.unwrap().uuid;
    fixture.add(host, &[lease]).await.unwrap();
    let delete = DeleteIpRangeRequest { uuid };
    let refused = ended(fixture.ranges.delete_ip_range(delete.clone())).await;
    let fault = refused.unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    assert!(fault.message.contains(&host.to_string()), "{fault:?}");
    let gone = fixture.remove(host, "a").await.remove(0);
    fixture.settle(host, &gone).await;
    ended(fixture.ranges.delete_ip_range(delete)).await.unwrap();
}
