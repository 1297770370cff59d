//! What a host has, held against what the tables say of it. Pure: no table is read here.
//!
//! A tap belongs to a process, so those of a virtual machine that runs are wanted, whether it should
//! run or not: that is another one's question. What a bridge serves is numbered, and the number is in
//! the words of what is found of it: what is served by then otherwise is another finding.

use std::collections::{HashMap, HashSet};

use cairn_agent_protocol::{Bridge, DhcpLease, HostInventory, Stray, Tap, is_tap_name};
use cairn_inspect::Suspect;
use cairn_proto::{
    compute::v1alpha1::VmInstance,
    meta::Resource as _,
    network::v1alpha1::{L2Network, L3Network, VmNic},
};

use crate::l2_network::bridge::PREFIX;

/// What a person does about a virtual machine whose tap is not where it belongs.
const AGAIN: &str = "stop the virtual machine and start it again";

/// What the tables say of a host.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The networks of its zone.
    pub(super) wires: Vec<Wire>,
    /// Nics of what runs there, and of the taps that are there, by the names of their taps.
    pub(super) nics: HashMap<String, Nic>,
    /// What it is to serve.
    pub(super) leases: Vec<Lease>,
    /// What it serves from.
    pub(super) servers: Vec<Server>,
    /// How often what a bridge serves was changed.
    pub(super) revisions: HashMap<String, i64>,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) network: String,
    pub(super) interface: String,
    pub(super) bridge: String,
    /// To the host's cluster.
    pub(super) attached: bool,
    pub(super) removing: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Nic {
    pub(super) uuid: String,
    pub(super) vm: String,
    pub(super) bridge: String,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) bridge: String,
    pub(super) mac: String,
    pub(super) ip: String,
    pub(super) nic: String,
    pub(super) vm: String,
    pub(super) network: String,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) bridge: String,
    pub(super) ip: String,
    pub(super) network: String,
}

impl Known {
    pub(super) fn add(&mut self, nics: &HashMap<String, Nic>) {
        let nics = nics.iter().map(|(tap, nic)| (tap.clone(), nic.clone()));
        self.nics.extend(nics);
    }

    fn leases_on<'a>(&'a self, bridge: &'a str) -> impl Iterator<Item = &'a Lease> {
        self.leases.iter().filter(move |it| it.bridge == bridge)
    }

    fn revision(&self, bridge: &str) -> i64 {
        self.revisions.get(bridge).copied().unwrap_or_default()
    }
}

/// What the two do not agree on.
pub(super) fn compare(has: &HostInventory, known: &Known) -> Vec<Suspect> {
    // What is plugged in, or served, is in the way of a bridge that is to go, and needs one that is
    // missing; see `bridges`.
    let (there, missing) = bridges(has, known);
    let mut suspects = missing;
    suspects.extend(taps(has, known));
    suspects.extend(servers(has, known));
    suspects.extend(served_from(has, known));
    suspects.extend(there);
    suspects
}

/// Those that are there and should not be, or not so; and those that should be there.
fn bridges(has: &HostInventory, known: &Known) -> (Vec<Suspect>, Vec<Suspect>) {
    let (mut suspects, mut missing) = (Vec::new(), Vec::new());
    let wanted = known
        .wires
        .iter()
        .filter(|wire| wire.attached && !wire.removing);
    for wire in wanted {
        let of_it = |suspect: Suspect| suspect.of(L2Network::NOUN, &wire.network).repair();
        match has.bridges.iter().find(|it| it.name == wire.bridge) {
            None => {
                let detail = "its network is attached to the cluster of the host";
                missing.push(of_it(Suspect::missing("bridge", &wire.bridge, detail)));
            }
            Some(bridge) if !bridge.ports.contains(&wire.interface) => {
                let detail = format!("it is not over {}", wire.interface);
                missing.push(of_it(Suspect::differs("bridge", &wire.bridge, detail)));
            }
            Some(_) => {}
        }
    }
    for bridge in has.bridges.iter().filter(is_ours) {
        let mut wires = known.wires.iter().filter(|wire| wire.bridge == bridge.name);
        match wires.clone().find(|wire| wire.attached || wire.removing) {
            Some(wire) => {
                let strange = bridge.ports.iter().filter(|port| **port != wire.interface);
                suspects.extend(strange.map(|port| {
                    let identity = format!("{} {port}", bridge.name);
                    let detail = "it is plugged into the bridge of a network";
                    let suspect = Suspect::extra("bridge-port", identity, detail);
                    let suspect = suspect.remove(port_of(&bridge.name, port));
                    suspect.of(L2Network::NOUN, &wire.network)
                }));
            }
            None => {
                let detail = "no network that has it is attached to the cluster of the host";
                let suspect = Suspect::extra("bridge", &bridge.name, detail).repair();
                suspects.push(match wires.next() {
                    Some(wire) => suspect.of(L2Network::NOUN, &wire.network),
                    None => suspect,
                });
            }
        }
    }
    (suspects, missing)
}

fn port_of(bridge: &str, port: &str) -> Stray {
    Stray::BridgePort {
        bridge: bridge.to_owned(),
        port: port.to_owned(),
    }
}

fn taps(has: &HostInventory, known: &Known) -> Vec<Suspect> {
    let processes = has.vm_processes.iter();
    let running: HashSet<_> = processes.map(|it| it.vm.to_string()).collect();
    // A start makes taps, and a stop removes them.
    let of_nic = |suspect: Suspect, nic: &Nic| {
        let suspect = suspect.queued_at(VmInstance::NOUN, &nic.vm);
        suspect.of(VmNic::NOUN, &nic.uuid).concerns(&nic.vm)
    };
    let stray = |tap: &Tap| Stray::Tap {
        name: tap.name.clone(),
    };
    let judge = |tap: &Tap| match known.nics.get(&tap.name) {
        Some(nic) if !running.contains(&nic.vm) => {
            let detail = format!("virtual machine {} does not run here", nic.vm);
            let suspect = Suspect::extra("tap", &tap.name, detail);
            Some(of_nic(suspect.remove(stray(tap)), nic))
        }
        Some(nic) if tap.bridge.as_ref() != Some(&nic.bridge) => {
            let into = tap.bridge.as_deref().unwrap_or("no bridge");
            let detail = format!("it is plugged into {into}, and belongs into {}", nic.bridge);
            let suspect = Suspect::differs("tap", &tap.name, detail).advise(AGAIN);
            Some(of_nic(suspect, nic))
        }
        Some(_) => None,
        None if is_tap_name(&tap.name) => {
            let detail = "it is of a nic that there is none of";
            Some(Suspect::extra("tap", &tap.name, detail).remove(stray(tap)))
        }
        None => {
            let into = tap.bridge.as_deref().filter(|it| it.starts_with(PREFIX))?;
            let detail = format!("nobody knows it, and it is plugged into {into}");
            let suspect = Suspect::extra("tap", &tap.name, detail);
            Some(suspect.remove(port_of(into, &tap.name)))
        }
    };
    let mut suspects: Vec<_> = has.taps.iter().filter_map(judge).collect();
    let there: HashSet<_> = has.taps.iter().map(|tap| &tap.name).collect();
    let wanted = known
        .nics
        .iter()
        .filter(|(_, nic)| running.contains(&nic.vm));
    let missing = wanted.filter(|(tap, _)| !there.contains(tap));
    suspects.extend(missing.map(|(tap, nic)| {
        let detail = format!("virtual machine {} runs without it", nic.vm);
        of_nic(Suspect::missing("tap", tap, detail).advise(AGAIN), nic)
    }));
    suspects
}

fn servers(has: &HostInventory, known: &Known) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    let mut serving = HashSet::new();
    for server in &has.dhcp_servers {
        let bridge = &server.bridge;
        let revision = known.revision(bridge);
        let leases: Vec<_> = known.leases_on(bridge).collect();
        if !serving.insert(bridge) {
            let detail = format!("another one serves there, too (revision {revision})");
            suspects.push(Suspect::extra("dhcp-server", bridge, detail).repair());
        } else if leases.is_empty() {
            let detail = format!("it is to serve nobody (revision {revision})");
            suspects.push(Suspect::extra("dhcp-server", bridge, detail).repair());
        } else {
            suspects.extend(entries(bridge, &server.entries, &leases, revision));
        }
    }
    let mut silent = HashSet::new();
    let wanted = known
        .leases
        .iter()
        .filter(|lease| !serving.contains(&lease.bridge));
    for lease in wanted.filter(|lease| silent.insert(&lease.bridge)) {
        let detail = format!(
            "nobody serves there (revision {})",
            known.revision(&lease.bridge)
        );
        let suspect = Suspect::missing("dhcp-server", &lease.bridge, detail).repair();
        let vms = known.leases_on(&lease.bridge).map(|lease| &lease.vm);
        let suspect = vms.fold(suspect, |suspect, vm| suspect.concerns(vm));
        suspects.push(suspect.of(L3Network::NOUN, &lease.network));
    }
    suspects
}

/// What a server tells, held against what it is to tell.
fn entries(bridge: &str, has: &[DhcpLease], wanted: &[&Lease], revision: i64) -> Vec<Suspect> {
    let identity = |mac: &str, ip: &str| format!("{bridge} {mac} {ip}");
    let told: HashSet<_> = has.iter().map(|it| (&*it.mac, &*it.ip)).collect();
    let to_tell: HashSet<_> = wanted.iter().map(|it| (&*it.mac, &*it.ip)).collect();
    let extra = told.difference(&to_tell).map(|(mac, ip)| {
        let detail = format!("nobody is to be told it (revision {revision})");
        let suspect = Suspect::extra("dhcp-entry", identity(mac, ip), detail).repair();
        match wanted.iter().find(|lease| lease.mac == *mac) {
            Some(lease) => suspect.of(VmNic::NOUN, &lease.nic).concerns(&lease.vm),
            None => suspect,
        }
    });
    let missing = wanted
        .iter()
        .filter(|it| !told.contains(&(&*it.mac, &*it.ip)));
    let missing = missing.map(|lease| {
        let detail = format!("virtual machine {} is not told it", lease.vm);
        let suspect = Suspect::missing("dhcp-entry", identity(&lease.mac, &lease.ip), detail);
        let suspect = suspect.repair();
        suspect.of(VmNic::NOUN, &lease.nic).concerns(&lease.vm)
    });
    extra.chain(missing).collect()
}

/// The addresses of bridges, which a host has only to serve from.
fn served_from(has: &HostInventory, known: &Known) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for bridge in has.bridges.iter().filter(is_ours) {
        let (name, revision) = (&bridge.name, known.revision(&bridge.name));
        let servers = || known.servers.iter().filter(|it| it.bridge == *name);
        for address in &bridge.addresses {
            if !servers().any(|server| server.ip == *address) {
                let detail = format!("the bridge has it for nothing (revision {revision})");
                let identity = format!("{name} {address}");
                suspects.push(Suspect::extra("bridge-address", identity, detail).repair());
            }
        }
        let leased = |network: &str| known.leases_on(name).any(|it| it.network == network);
        for server in servers().filter(|it| leased(&it.network)) {
            if !bridge.addresses.contains(&server.ip) {
                let detail = format!("the host is to serve from it (revision {revision})");
                let identity = format!("{name} {}", server.ip);
                let suspect = Suspect::missing("bridge-address", identity, detail).repair();
                let vms = known.leases_on(name).map(|lease| &lease.vm);
                let suspect = vms.fold(suspect, |suspect, vm| suspect.concerns(vm));
                suspects.push(suspect.of(L3Network::NOUN, &server.network));
            }
        }
    }
    suspects
}

/// Whether the bridge has a name that bridges of networks have.
fn is_ours(bridge: &&Bridge) -> bool {
    bridge.name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests;
