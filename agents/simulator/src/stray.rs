//! What a simulated host removes since nobody says that it should be there.

use cairn_agent_protocol::{CommandError, DeleteBridge, Stray, tap_name};
use cairn_types::Uuid;

use crate::HostState;

impl HostState {
    pub(crate) fn remove_stray(&mut self, stray: &Stray) -> Result<(), CommandError> {
        match stray {
            Stray::VmProcess {
                vm,
                pid,
                with_folder,
            } => {
                if self.vms.get(vm).is_some_and(|it| it.pid == Some(*pid)) {
                    self.stop_vm(*vm);
                }
                let runs = self.vms.get(vm).is_some_and(|it| it.pid.is_some());
                if *with_folder && !runs {
                    self.vms.remove(vm);
                }
            }
            Stray::VmFolder { vm } => {
                if self.vms.get(vm).is_some_and(|it| it.pid.is_some()) {
                    let text = format!("virtual machine {vm} runs");
                    return Err(CommandError::failed(text));
                }
                self.vms.remove(vm);
            }
            Stray::Tap { name } => match self.runs_with(name) {
                Some(vm) => {
                    let text = format!("virtual machine {vm} runs with {name}");
                    return Err(CommandError::failed(text));
                }
                None => drop(self.strays.taps.remove(name)),
            },
            Stray::Bridge { name } => {
                let bridge = name.clone();
                self.delete_bridge(&DeleteBridge { bridge })?;
                self.dhcp.remove(name);
            }
            Stray::BridgePort { bridge, port } => {
                self.strays
                    .taps
                    .retain(|tap, into| tap != port || into != bridge);
                let over = self.bridges.get_mut(bridge);
                if let Some(over) = over.filter(|over| *over == port) {
                    over.clear();
                }
            }
            Stray::Dhcp { bridge } => drop(self.dhcp.remove(bridge)),
            Stray::File { path } => {
                self.volumes.retain(|_, volume| volume.path != *path);
                self.images.remove(path);
                self.strays.files.remove(path);
            }
        }
        Ok(())
    }

    fn runs_with(&self, tap: &str) -> Option<Uuid> {
        let mut running = self.vms.iter().filter(|(_, vm)| vm.pid.is_some());
        let found = running.find(|(_, vm)| vm.nics.iter().any(|nic| tap_name(nic.nic) == tap));
        found.map(|(vm, _)| *vm)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cairn_agent_protocol::NicSpec;
    use cairn_types::HostUuid;

    use super::*;
    use crate::VmState;

    #[test]
    fn what_runs_is_kept_and_the_rest_goes_once() {
        let mut host = HostState::new(HostUuid::generate());
        let (vm, nic) = (Uuid::new_v4(), Uuid::new_v4());
        let nics = vec![NicSpec {
            nic,
            mac: "fa:00:00:00:00:01".to_owned(),
            bridge: "br_eth0".to_owned(),
            ip: None,
        }];
        let runs = VmState {
            name: "web".to_owned(),
            pid: Some(7),
            cpu_count: 1,
            memory_bytes: 1 << 30,
            root_volume_path: "/pool/volumes/a".to_owned(),
            nics,
            console: String::new(),
        };
        host.vms = BTreeMap::from([(vm, runs)]);
        let over = |it: &str| it.to_owned();
        host.bridges = BTreeMap::from([(over("br_eth0"), over("eth0"))]);
        let process = |pid| Stray::VmProcess {
            vm,
            pid,
            with_folder: true,
        };
        let port = Stray::BridgePort {
            bridge: "br_eth0".to_owned(),
            port: "eth0".to_owned(),
        };
        for refused in [
            Stray::VmFolder { vm },
            Stray::Tap {
                name: tap_name(nic),
            },
            Stray::Bridge {
                name: "br_eth0".to_owned(),
            },
        ] {
            assert!(host.remove_stray(&refused).is_err(), "{refused}");
        }
        // Another process had that number.
        host.remove_stray(&process(8)).unwrap();
        assert_eq!(host.running(), [vm]);
        for stray in [port, process(7)] {
            host.remove_stray(&stray).unwrap();
            let once = host.clone();
            host.remove_stray(&stray).unwrap();
            assert_eq!(host, once, "{stray}");
        }
        assert_eq!(host.bridges["br_eth0"], "");
        assert!(host.vms.is_empty());
    }
}
