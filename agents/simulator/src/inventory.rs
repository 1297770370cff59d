//! What simulated hosts have, all of it; and what a test leaves there that no command made.

use std::collections::BTreeMap;

use cairn_agent_protocol::{Bridge, DhcpServer, HostInventory, PoolFile, Tap, VmProcess, tap_name};
use serde::{Deserialize, Serialize};

use crate::{HostState, pool::IMAGE_BYTES};

/// What is on a host beside what commands make. Nothing, unless a test tampers with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strays {
    /// Taps, and the bridge of each.
    pub taps: BTreeMap<String, String>,
    /// Files, and the size of each in bytes.
    pub files: BTreeMap<String, u64>,
}

impl HostState {
    /// What the host has, with the files in these pools.
    #[must_use]
    pub fn inventory(&self, pools: &[String]) -> HostInventory {
        let running = || {
            self.vms
                .iter()
                .filter_map(|(vm, it)| Some((vm, it, it.pid?)))
        };
        let plugged = running().flat_map(|(_, vm, _)| &vm.nics);
        let plugged = plugged.map(|nic| (tap_name(nic.nic), nic.bridge.clone()));
        let taps = plugged.chain(self.strays.taps.clone());
        let volumes = self.volumes.values();
        let volumes = volumes.map(|volume| (&volume.path, volume.size_bytes));
        let images = self.images.keys().map(|path| (path, IMAGE_BYTES));
        let strays = self.strays.files.iter().map(|(path, size)| (path, *size));
        let within = |path: &str| {
            let mut pools = pools.iter();
            pools.any(|pool| {
                path.strip_prefix(&**pool)
                    .is_some_and(|it| it.starts_with('/'))
            })
        };
        HostInventory {
            vm_processes: running()
                .map(|(vm, _, pid)| VmProcess { vm: *vm, pid })
                .collect(),
            vm_folders: self.vms.keys().copied().collect(),
            taps: taps
                .map(|(name, bridge)| Tap {
                    name,
                    bridge: Some(bridge),
                })
                .collect(),
            bridges: self.bridges().collect(),
            dhcp_servers: self.dhcp_servers().collect(),
            files: volumes
                .chain(images)
                .chain(strays)
                .filter(|(path, _)| within(path))
                .map(|(path, size_bytes)| PoolFile {
                    path: path.clone(),
                    size_bytes,
                })
                .collect(),
        }
    }

    fn bridges(&self) -> impl Iterator<Item = Bridge> {
        self.bridges.iter().map(|(name, interface)| {
            let served = self.dhcp.get(name).into_iter();
            let served = served.flat_map(|dhcp| &dhcp.subnets);
            let ports = std::iter::once(interface).filter(|port| !port.is_empty());
            Bridge {
                name: name.clone(),
                ports: ports.cloned().collect(),
                addresses: served.map(|subnet| subnet.address.clone()).collect(),
            }
        })
    }

    fn dhcp_servers(&self) -> impl Iterator<Item = DhcpServer> {
        let serving = self.dhcp.iter().filter(|(_, it)| !it.subnets.is_empty());
        serving.map(|(bridge, dhcp)| {
            let entries = dhcp.subnets.iter().flat_map(|subnet| subnet.leases.clone());
            DhcpServer {
                bridge: bridge.clone(),
                entries: entries.collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_agent_protocol::{CreateVolume, EnsureBridge, NicSpec, StartVm};
    use cairn_types::{HostUuid, Uuid};

    #[test]
    fn everything_is_in_it_and_only_the_files_of_the_pools() {
        let mut host = HostState::new(HostUuid::generate());
        let (vm, nic, volume) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let ensure = EnsureBridge {
            bridge: "br_eth0".to_owned(),
            interface: "eth0".to_owned(),
        };
        host.ensure_bridge(ensure).unwrap();
        let create = CreateVolume {
            volume,
            pool_path: "/pool".to_owned(),
            size_bytes: 7,
            template: None,
        };
        let facts = host.create_volume(&create).unwrap();
        let start = StartVm {
            vm,
            name: "web".to_owned(),
            cpu_count: 1,
            memory_bytes: 1 << 30,
            root_volume_path: facts.path.clone(),
            nics: vec![NicSpec {
                nic,
                mac: "fa:00:00:00:00:01".to_owned(),
                bridge: "br_eth0".to_owned(),
                ip: None,
            }],
        };
        let pid = host.start_vm(start).unwrap().pid.unwrap();
        host.strays.files.insert("/pool2/volumes/x".to_owned(), 1);

        let has = host.inventory(&["/pool".to_owned()]);
        assert_eq!(has.vm_processes, [VmProcess { vm, pid }]);
        let tap = Tap {
            name: tap_name(nic),
            bridge: Some("br_eth0".to_owned()),
        };
        assert_eq!(has.taps, [tap]);
        assert_eq!(has.bridges[0].ports, ["eth0"]);
        let file = PoolFile {
            path: facts.path,
            size_bytes: 7,
        };
        assert_eq!(has.files, [file]);
        assert!(has.dhcp_servers.is_empty());

        host.stop_vm(vm);
        let has = host.inventory(&[]);
        assert!(has.vm_processes.is_empty() && has.taps.is_empty() && has.files.is_empty());
        assert_eq!(has.vm_folders, [vm]);
    }
}
