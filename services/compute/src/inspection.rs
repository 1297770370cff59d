//! This area's part in an examination: processes and folders of virtual machines, their states,
//! and what is reserved of hosts.

mod capacity;
mod repair;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use cairn_agent::Hosts;
use cairn_agent_protocol::{HostInventory, Stray};
use cairn_inspect::{Inspect, Place, Repair, Suspect};
use cairn_proto::{
    compute::v1alpha1::{HostClient, VmInstance, VmInstanceState as State},
    fault::Fault,
    meta::Resource as _,
};
use cairn_store::Store;

/// What a person does about a virtual machine of which two processes run.
const TWO: &str = "stop the virtual machine, fix what is then found, and start it again";

pub(crate) struct Inspection {
    pub(crate) store: Store,
    pub(crate) hosts: HostClient,
    pub(crate) agents: Hosts,
}

#[async_trait]
impl Inspect for Inspection {
    async fn host(&self, place: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        let on_host = vec![place.host_uuid.as_str().into()];
        let mut rows = HashMap::new();
        for vm in self
            .store
            .list::<VmInstance>("host_uuid = ?", on_host)
            .await?
        {
            rows.insert(vm.uuid.clone(), vm);
        }
        // Of those that should not be here, where they should be.
        let processes = has.vm_processes.iter().map(|process| process.vm);
        for uuid in processes.chain(has.vm_folders.iter().copied()) {
            let uuid = uuid.to_string();
            if !rows.contains_key(&uuid)
                && let Some(vm) = self.store.get::<VmInstance>(&uuid).await?
            {
                rows.insert(uuid, vm);
            }
        }
        Ok(compare(&place.host_uuid, has, &rows))
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let mut suspects = capacity::check(&self.store).await?;
        let on_their_way = "state IN ('Starting', 'Stopping', 'Rebooting', 'Destroying')";
        for vm in self
            .store
            .list::<VmInstance>(on_their_way, Vec::new())
            .await?
        {
            let detail = format!("it is {:?}, and no operation is at it", vm.state());
            let suspect = Suspect::differs("vm-state", &vm.uuid, detail);
            let suspect = match vm.state() {
                State::Destroying => suspect.advise("delete it again"),
                _ => suspect.repair(),
            };
            suspects.push(suspect.of(VmInstance::NOUN, &vm.uuid));
        }
        Ok(suspects)
    }

    async fn repair(&self, repair: &Repair) -> Result<bool, Fault> {
        match &*repair.finding.kind {
            "vm-process" => self.reconnect(&repair.finding.host_uuid).await?,
            "vm-state" => self.settle(&repair.finding.owner_uuid).await?,
            "host-capacity" => capacity::correct(&self.store, &repair.finding.owner_uuid).await?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Holds what runs on a host, which is connected, against the rows of all that is or should be
/// there. States that an operation is behind are nobody's business here.
fn compare(host: &str, has: &HostInventory, rows: &HashMap<String, VmInstance>) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    let mut running = HashSet::new();
    for process in &has.vm_processes {
        let uuid = process.vm.to_string();
        let identity = format!("{uuid} pid {}", process.pid);
        let differs = |detail: String| {
            Suspect::differs("vm-process", &identity, detail).of(VmInstance::NOUN, &uuid)
        };
        let stray = |with_folder| Stray::VmProcess {
            vm: process.vm,
            pid: process.pid,
            with_folder,
        };
        let again = !running.insert(uuid.clone());
        match rows.get(&uuid) {
            None => {
                let detail = "it runs a virtual machine that there is none of";
                let suspect = Suspect::extra("vm-process", &identity, detail).remove(stray(true));
                suspects.push(suspect.queued_at(VmInstance::NOUN, &uuid));
            }
            Some(vm) if vm.host_uuid.as_deref() != Some(host) => {
                suspects.push(differs(elsewhere("it runs here", vm)).remove(stray(true)));
            }
            Some(_) if again => {
                let detail = "another process runs the same one".to_owned();
                suspects.push(differs(detail).advise(TWO));
            }
            Some(vm) => {
                let detail = format!("it runs, and its row says {:?}", vm.state());
                suspects.extend(match vm.state() {
                    State::Stopped | State::Destroyed => Some(differs(detail).remove(stray(false))),
                    State::Unknown => Some(differs(detail).repair()),
                    _ => None,
                });
            }
        }
    }
    for vm in rows.values() {
        let here = vm.host_uuid.as_deref() == Some(host) && !running.contains(&vm.uuid);
        if here && matches!(vm.state(), State::Running | State::Unknown) {
            let detail = format!("it does not run, and its row says {:?}", vm.state());
            let suspect = Suspect::missing("vm-process", &vm.uuid, detail).repair();
            suspects.push(suspect.of(VmInstance::NOUN, &vm.uuid));
        }
    }
    for vm in &has.vm_folders {
        let (uuid, stray) = (vm.to_string(), Stray::VmFolder { vm: *vm });
        // With a process goes its folder.
        if running.contains(&uuid) {
            continue;
        }
        match rows.get(&uuid) {
            None => {
                let detail = "it is of a virtual machine that there is none of";
                let suspect = Suspect::extra("vm-folder", &uuid, detail).remove(stray);
                suspects.push(suspect.queued_at(VmInstance::NOUN, &uuid));
            }
            Some(vm) if vm.host_uuid.as_deref() != Some(host) => {
                let detail = elsewhere("it is kept here", vm);
                let suspect = Suspect::extra("vm-folder", &uuid, detail).remove(stray);
                suspects.push(suspect.of(VmInstance::NOUN, &uuid));
            }
            Some(_) => {}
        }
    }
    suspects
}

fn elsewhere(seen: &str, vm: &VmInstance) -> String {
    match &vm.host_uuid {
        Some(host) => format!("{seen}, and its row says host {host}"),
        None => format!("{seen}, and its row says no host"),
    }
}

#[cfg(test)]
mod tests;
