//! Addresses by DHCP, asked for by a client at the other end of the host's cable.

use cairn_agent_protocol::{Agent as _, ApplyDhcp, DhcpLease, DhcpSubnet, EnsureBridge};

use crate::bed::{Bed, context};

const MAC: &str = "fa:00:00:00:00:01";

fn apply(revision: u64, leases: &[(&str, &str, &str)]) -> ApplyDhcp {
    let leases = leases.iter().map(|(mac, ip, host_name)| DhcpLease {
        mac: (*mac).to_owned(),
        ip: (*ip).to_owned(),
        host_name: (*host_name).to_owned(),
    });
    let subnet = DhcpSubnet {
        address: "10.1.0.9".to_owned(),
        prefix_length: 16,
        gateway: "10.1.0.1".to_owned(),
        domain_name: None,
        dns: Vec::new(),
        leases: leases.collect(),
    };
    ApplyDhcp {
        bridge: "br_test".to_owned(),
        revision,
        since: None,
        subnets: Some(subnet)
            .filter(|subnet| !subnet.leases.is_empty())
            .into_iter()
            .collect(),
    }
}

#[tokio::test]
async fn a_client_is_told_what_was_applied_last() {
    let bed = Bed::new(&[]);
    bed.namespace.ip(&format!("link set cable0 address {MAC}"));
    let agent = bed.agent().await;
    let ensure = EnsureBridge {
        bridge: "br_test".to_owned(),
        interface: "phys0".to_owned(),
    };
    agent.ensure_bridge(&context(), ensure).await.unwrap();

    let (web, db) = (
        (MAC, "10.1.0.10", "web"),
        ("fa:00:00:00:00:02", "10.1.0.11", "db"),
    );
    agent.apply_dhcp(&context(), apply(1, &[db])).await.unwrap();
    assert_eq!(bed.address_by_dhcp(), None);
    agent
        .apply_dhcp(&context(), apply(2, &[web, db]))
        .await
        .unwrap();
    assert_eq!(bed.address_by_dhcp().as_deref(), Some("10.1.0.10"));
    // The same again leaves the server alone; one more is served beside who was answered.
    let running = bed.namespace.pids();
    let again = apply(3, &[web, db]);
    agent.apply_dhcp(&context(), again).await.unwrap();
    assert_eq!(bed.namespace.pids(), running);
    let more = [web, db, ("fa:00:00:00:00:03", "10.1.0.12", "log")];
    agent.apply_dhcp(&context(), apply(4, &more)).await.unwrap();
    assert_eq!(bed.address_by_dhcp().as_deref(), Some("10.1.0.10"));
    // Overtaken.
    agent.apply_dhcp(&context(), apply(1, &[db])).await.unwrap();
    assert_eq!(bed.address_by_dhcp().as_deref(), Some("10.1.0.10"));

    // An agent that was started again finds the server; the address of who left is another's.
    let agent = bed.agent().await;
    let moved = (MAC, "10.1.0.11", "web");
    agent
        .apply_dhcp(&context(), apply(5, &[moved]))
        .await
        .unwrap();
    assert_eq!(bed.address_by_dhcp().as_deref(), Some("10.1.0.11"));
    assert_eq!(bed.namespace.pids().len(), running.len());

    agent.apply_dhcp(&context(), apply(6, &[])).await.unwrap();
    assert_eq!(bed.address_by_dhcp(), None);
    assert_eq!(bed.namespace.pids().len(), running.len() - 1);
    let left = bed.namespace.ip("address show dev br_test");
    assert!(!left.contains("10.1.0.9"), "{left}");
}
