//! The comparisons, on cases.

use cairn_agent_protocol::{DhcpServer, VmProcess, tap_name};
use cairn_proto::doctor::v1alpha1::Problem::{self, Differs, Extra, Missing};
use cairn_types::Uuid;

use super::*;

const VM: Uuid = Uuid::from_u128(7);
const NIC: Uuid = Uuid::from_u128(0xabc);
const MAC: &str = "fa:00:00:00:00:01";

/// A host with one network, and a virtual machine that runs; the tables say the same.
fn at_rest() -> (HostInventory, Known) {
    let lease = DhcpLease {
        mac: MAC.to_owned(),
        ip: "10.1.0.10".to_owned(),
        host_name: "web".to_owned(),
    };
    let has = HostInventory {
        vm_processes: vec![VmProcess { vm: VM, pid: 1 }],
        vm_folders: vec![VM],
        taps: vec![Tap {
            name: tap_name(NIC),
            bridge: Some("br_eth0".to_owned()),
        }],
        bridges: vec![Bridge {
            name: "br_eth0".to_owned(),
            ports: vec!["eth0".to_owned()],
            addresses: vec!["10.1.0.9".to_owned()],
        }],
        dhcp_servers: vec![DhcpServer {
            bridge: "br_eth0".to_owned(),
            entries: vec![lease],
        }],
        files: Vec::new(),
    };
    let nic = Nic {
        uuid: NIC.to_string(),
        vm: VM.to_string(),
        bridge: "br_eth0".to_owned(),
    };
    let known = Known {
        wires: vec![Wire {
            network: "wire".to_owned(),
            interface: "eth0".to_owned(),
            bridge: "br_eth0".to_owned(),
            attached: true,
            removing: false,
        }],
        nics: HashMap::from([(tap_name(NIC), nic)]),
        leases: vec![Lease {
            bridge: "br_eth0".to_owned(),
            mac: MAC.to_owned(),
            ip: "10.1.0.10".to_owned(),
            nic: NIC.to_string(),
            vm: VM.to_string(),
            network: "net".to_owned(),
        }],
        servers: vec![Server {
            bridge: "br_eth0".to_owned(),
            ip: "10.1.0.9".to_owned(),
            network: "net".to_owned(),
        }],
        revisions: HashMap::new(),
    };
    (has, known)
}

#[test]
fn a_host_and_the_tables_are_held_against_each_other() {
    let check = |change: fn(&mut HostInventory, &mut Known), expected: &[(&str, Problem, &str)]| {
        let (mut has, mut known) = at_rest();
        change(&mut has, &mut known);
        let found = compare(&has, &known);
        let found: Vec<_> = found.iter().map(Suspect::finding).collect();
        let short: Vec<_> = found
            .iter()
            .map(|it| (&*it.kind, it.problem(), &*it.owner_type))
            .collect();
        assert_eq!(short, expected, "{found:?}");
    };
    check(|_, _| {}, &[]);
    // Bridges.
    check(
        |has, known| {
            *has = HostInventory::default();
            known.leases.clear();
        },
        &[("bridge", Missing, "l2-network")],
    );
    check(
        |has, _| has.bridges[0].ports = vec!["eth7".to_owned()],
        &[
            ("bridge", Differs, "l2-network"),
            ("bridge-port", Extra, "l2-network"),
        ],
    );
    check(
        |_, known| known.wires[0].attached = false,
        &[("bridge", Extra, "l2-network")],
    );
    check(|_, known| known.wires.clear(), &[("bridge", Extra, "")]);
    check(|_, known| known.wires[0].removing = true, &[]);
    check(
        |has, _| has.bridges[0].ports.push("eth1".to_owned()),
        &[("bridge-port", Extra, "l2-network")],
    );
    let docker = |has: &mut HostInventory, _: &mut Known| {
        has.bridges.push(Bridge {
            name: "docker0".to_owned(),
            ports: vec!["veth1".to_owned()],
            addresses: vec!["172.17.0.1".to_owned()],
        });
    };
    check(docker, &[]);
    // Taps.
    check(|has, _| has.taps.clear(), &[("tap", Missing, "vm-nic")]);
    check(
        |has, _| has.vm_processes.clear(),
        &[("tap", Extra, "vm-nic")],
    );
    check(
        |has, _| has.taps[0].bridge = None,
        &[("tap", Differs, "vm-nic")],
    );
    check(|_, known| known.nics.clear(), &[("tap", Extra, "")]);
    check(
        |has, _| has.taps[0].name = "vnet0".to_owned(),
        &[("tap", Extra, ""), ("tap", Missing, "vm-nic")],
    );
    let foreign = |has: &mut HostInventory, _: &mut Known| {
        has.taps.push(Tap {
            name: "vnet0".to_owned(),
            bridge: Some("virbr0".to_owned()),
        });
    };
    check(foreign, &[]);
    // Addresses by DHCP.
    check(
        |has, _| has.dhcp_servers.clear(),
        &[("dhcp-server", Missing, "l3-network")],
    );
    check(
        |_, known| known.leases.clear(),
        &[("dhcp-server", Extra, "")],
    );
    check(
        |has, _| has.dhcp_servers.extend(has.dhcp_servers.clone()),
        &[("dhcp-server", Extra, "")],
    );
    check(
        |has, _| has.dhcp_servers[0].entries.clear(),
        &[("dhcp-entry", Missing, "vm-nic")],
    );
    check(
        |has, _| has.dhcp_servers[0].entries[0].ip = "10.1.0.11".to_owned(),
        &[
            ("dhcp-entry", Extra, "vm-nic"),
            ("dhcp-entry", Missing, "vm-nic"),
        ],
    );
    check(
        |has, _| has.bridges[0].addresses.clear(),
        &[("bridge-address", Missing, "l3-network")],
    );
    check(
        |_, known| known.servers.clear(),
        &[("bridge-address", Extra, "")],
    );
}

#[test]
fn what_is_served_by_then_otherwise_is_another_finding() {
    let (has, mut known) = at_rest();
    known.leases.clear();
    let detail = |known: &Known| compare(&has, known)[0].finding().detail.clone();
    known.revisions.insert("br_eth0".to_owned(), 4);
    let before = detail(&known);
    assert_eq!(detail(&known), before);
    known.revisions.insert("br_eth0".to_owned(), 5);
    assert_ne!(detail(&known), before);
}
