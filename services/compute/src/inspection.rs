//! This area's part in an examination: processes and folders of virtual machines, their states,
//! and what is reserved of hosts.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use cairn_agent_protocol::HostInventory;
use cairn_inspect::{Inspect, Place, Suspect};
use cairn_proto::{
    compute::v1alpha1::{Host, VmInstance, VmInstanceState as State},
    fault::Fault,
    meta::Resource as _,
};
use cairn_store::{Row, Store, StoreError};

use crate::host::connect::VIRTUAL_CPUS_PER_CPU;

pub(crate) struct Inspection(pub(crate) Store);

#[async_trait]
impl Inspect for Inspection {
    async fn host(&self, place: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        let on_host = vec![place.host_uuid.as_str().into()];
        let mut rows = HashMap::new();
        for vm in self.0.list::<VmInstance>("host_uuid = ?", on_host).await? {
            rows.insert(vm.uuid.clone(), vm);
        }
        // Of those that should not be here, where they should be.
        let processes = has.vm_processes.iter().map(|process| process.vm);
        for uuid in processes.chain(has.vm_folders.iter().copied()) {
            let uuid = uuid.to_string();
            if !rows.contains_key(&uuid)
                && let Some(vm) = self.0.get::<VmInstance>(&uuid).await?
            {
                rows.insert(uuid, vm);
            }
        }
        Ok(compare(&place.host_uuid, has, &rows))
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let mut suspects = Vec::new();
        for row in self.0.rows(RESERVED, Vec::new()).await? {
            suspects.extend(Reserved::read(&row)?.into_iter().flat_map(Reserved::check));
        }
        let on_their_way = "state IN ('Starting', 'Stopping', 'Rebooting', 'Destroying')";
        for vm in self.0.list::<VmInstance>(on_their_way, Vec::new()).await? {
            let detail = format!("it is {:?}, and no operation is at it", vm.state());
            let suspect = Suspect::differs("vm-state", &vm.uuid, detail);
            suspects.push(suspect.of(VmInstance::NOUN, &vm.uuid));
        }
        Ok(suspects)
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
        let again = !running.insert(uuid.clone());
        match rows.get(&uuid) {
            None => {
                let detail = "it runs a virtual machine that there is none of";
                suspects.push(Suspect::extra("vm-process", &identity, detail));
            }
            Some(vm) if vm.host_uuid.as_deref() != Some(host) => {
                suspects.push(differs(elsewhere("it runs here", vm)));
            }
            Some(_) if again => {
                suspects.push(differs("another process runs the same one".to_owned()));
            }
            Some(vm) if matches!(vm.state(), State::Stopped | State::Unknown) => {
                let detail = format!("it runs, and its row says {:?}", vm.state());
                suspects.push(differs(detail));
            }
            Some(_) => {}
        }
    }
    for vm in rows.values() {
        let here = vm.host_uuid.as_deref() == Some(host) && !running.contains(&vm.uuid);
        if here && matches!(vm.state(), State::Running | State::Unknown) {
            let detail = format!("it does not run, and its row says {:?}", vm.state());
            let suspect = Suspect::missing("vm-process", &vm.uuid, detail);
            suspects.push(suspect.of(VmInstance::NOUN, &vm.uuid));
        }
    }
    for uuid in &has.vm_folders {
        let uuid = uuid.to_string();
        // With a process goes its folder.
        if running.contains(&uuid) {
            continue;
        }
        match rows.get(&uuid) {
            None => {
                let detail = "it is of a virtual machine that there is none of";
                suspects.push(Suspect::extra("vm-folder", uuid, detail));
            }
            Some(vm) if vm.host_uuid.as_deref() != Some(host) => {
                let detail = elsewhere("it is kept here", vm);
                let suspect = Suspect::extra("vm-folder", &uuid, detail);
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

/// What each host has left, and what virtual machines take of it, in one statement: a reservation
/// changes with the row that it is for. One that is being destroyed may have been stopped before.
const RESERVED: &str = "SELECT h.uuid, h.memory_bytes, h.available_memory_bytes, h.cpu_count, \
    h.available_cpu_count, \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed', 'Destroying') \
    THEN v.memory_bytes ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed') THEN v.memory_bytes ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed', 'Destroying') \
    THEN v.cpu_count ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed') THEN v.cpu_count ELSE 0 END), 0) AS BIGINT) \
    FROM host h LEFT JOIN vm_instance v ON v.host_uuid = h.uuid \
    GROUP BY h.uuid, h.memory_bytes, h.available_memory_bytes, h.cpu_count, h.available_cpu_count";

/// What is reserved of one thing of a host.
#[derive(Debug)]
struct Reserved {
    host: String,
    what: &'static str,
    total: i64,
    left: i64,
    /// What virtual machines surely take, and what they take at most.
    taken: (i64, i64),
}

impl Reserved {
    /// Memory and processors of a row of [`RESERVED`].
    fn read(row: &Row) -> Result<[Self; 2], StoreError> {
        let memory = Self {
            host: row.text(0)?,
            what: "memoryBytes",
            total: row.int(1)?,
            left: row.int(2)?,
            taken: (row.int(5)?, row.int(6)?),
        };
        let cpus = Self {
            host: row.text(0)?,
            what: "cpuCount",
            total: row.int(3)?.saturating_mul(VIRTUAL_CPUS_PER_CPU.into()),
            left: row.int(4)?,
            taken: (row.int(7)?, row.int(8)?),
        };
        Ok([memory, cpus])
    }

    /// A host that came back smaller than what runs on it has nothing left.
    fn check(self) -> Option<Suspect> {
        let Self {
            host,
            what,
            total,
            left,
            taken: (least, most),
        } = self;
        let reserved = total - left;
        if (least.min(total)..=most.min(total)).contains(&reserved) {
            return None;
        }
        let detail = format!(
            "{reserved} of {total} are reserved, and the virtual machines of the host take {least}"
        );
        Some(Suspect::differs("host-capacity", what, detail).of(Host::NOUN, host))
    }
}

#[cfg(test)]
mod tests;
