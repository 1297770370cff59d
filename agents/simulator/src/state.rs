//! What the simulated hosts have: volumes and virtual machines, images and bridges, in memory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use cairn_agent_protocol::{
    CommandError, CommandErrorCode, ConsolePart, CreateVolume, NicSpec, ReadConsole, StartVm,
    VmFacts, VolumeFacts,
};
use cairn_types::{Coded, ErrorCode, HostUuid, Uuid};

use crate::{DhcpState, ImageState, Strays};

/// A kept state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file could not be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file is not what the simulator wrote.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
}

impl Coded for StateError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Internal
    }
}

/// How big a simulated host says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSize {
    /// CPUs.
    pub cpu_count: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its storage pool.
    #[serde(default = "default_pool_bytes")]
    pub pool_bytes: u64,
}

fn default_pool_bytes() -> u64 {
    1 << 40
}

impl Default for HostSize {
    fn default() -> Self {
        Self {
            cpu_count: 64,
            memory_bytes: 256 << 30,
            pool_bytes: default_pool_bytes(),
        }
    }
}

/// One simulated host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The host.
    pub host: HostUuid,
    /// Another one for each boot.
    pub boot_id: Uuid,
    /// How big it says that it is.
    pub size: HostSize,
    /// Its volumes.
    pub volumes: BTreeMap<Uuid, VolumeFacts>,
    /// Its cached images, by their files.
    #[serde(default)]
    pub images: BTreeMap<String, ImageState>,
    /// Its bridges, and the interface of each; empty if it was unplugged.
    #[serde(default)]
    pub bridges: BTreeMap<String, String>,
    /// What it serves by DHCP, by bridge.
    #[serde(default)]
    pub dhcp: BTreeMap<String, DhcpState>,
    /// Its virtual machines, running or not.
    pub vms: BTreeMap<Uuid, VmState>,
    /// What no command made.
    #[serde(default)]
    pub strays: Strays,
    /// How many commands of each name changed something. Of hosts that are kept, for those who
    /// check that a restart doubles nothing; of others there are records.
    #[serde(default)]
    pub effects: BTreeMap<String, u64>,
    next_pid: u32,
}

/// A simulated virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// Its name.
    pub name: String,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its root volume.
    pub root_volume_path: String,
    /// Its network interfaces.
    pub nics: Vec<NicSpec>,
    /// What it wrote to its serial console, over all its runs.
    #[serde(default)]
    pub console: String,
}

impl VmState {
    fn says(&mut self, what: &str) {
        let name = &self.name;
        self.console
            .push_str(&format!("simulated {name}: {what}\n"));
    }
}

impl HostState {
    pub(crate) fn new(host: HostUuid) -> Self {
        Self {
            host,
            boot_id: Uuid::new_v4(),
            size: HostSize::default(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            bridges: BTreeMap::new(),
            dhcp: BTreeMap::new(),
            vms: BTreeMap::new(),
            strays: Strays::default(),
            effects: BTreeMap::new(),
            next_pid: 1000,
        }
    }

    /// Virtual machines that run.
    #[must_use]
    pub fn running(&self) -> Vec<Uuid> {
        let running = self.vms.iter().filter(|(_, vm)| vm.pid.is_some());
        running.map(|(uuid, _)| *uuid).collect()
    }

    pub(crate) fn create_volume(
        &mut self,
        command: &CreateVolume,
    ) -> Result<VolumeFacts, CommandError> {
        let template = command.template.as_ref();
        if let Some(path) = template.filter(|path| !self.images.contains_key(*path)) {
            return Err(CommandError::failed(format!("there is no image {path}")));
        }
        let made = VolumeFacts {
            path: format!("{}/volumes/{}.qcow2", command.pool_path, command.volume),
            size_bytes: command.size_bytes,
        };
        let there = self.volumes.entry(command.volume).or_insert(made.clone());
        if *there == made {
            return Ok(made);
        }
        let text = format!("the volume is there with another size or place: {there:?}");
        Err(CommandError::new(CommandErrorCode::Invalid, text))
    }

    pub(crate) fn start_vm(&mut self, command: StartVm) -> Result<VmFacts, CommandError> {
        let path = command.root_volume_path;
        if !self.volumes.values().any(|volume| volume.path == path) {
            return Err(CommandError::failed(format!("there is no volume {path}")));
        }
        if let Some(pid) = self.vms.get(&command.vm).and_then(|vm| vm.pid) {
            return Ok(VmFacts { pid: Some(pid) });
        }
        let pid = self.new_pid();
        let before = self.vms.remove(&command.vm);
        let mut vm = VmState {
            name: command.name,
            pid: Some(pid),
            cpu_count: command.cpu_count,
            memory_bytes: command.memory_bytes,
            root_volume_path: path,
            nics: command.nics,
            console: before.map(|vm| vm.console).unwrap_or_default(),
        };
        vm.says("boot");
        self.vms.insert(command.vm, vm);
        Ok(VmFacts { pid: Some(pid) })
    }

    pub(crate) fn stop_vm(&mut self, vm: Uuid) {
        if let Some(vm) = self.vms.get_mut(&vm).filter(|vm| vm.pid.is_some()) {
            vm.pid = None;
            vm.says("power off");
        }
    }

    pub(crate) fn reboot_vm(&mut self, uuid: Uuid) -> Result<(), CommandError> {
        let pid = self.new_pid();
        match self.vms.get_mut(&uuid) {
            Some(vm) if vm.pid.is_some() => {
                vm.pid = Some(pid);
                vm.says("reboot");
                Ok(())
            }
            _ => {
                let text = format!("virtual machine {uuid} does not run here");
                Err(CommandError::new(CommandErrorCode::NotFound, text))
            }
        }
    }

    pub(crate) fn console(&self, command: &ReadConsole) -> Option<ConsolePart> {
        let log = self.vms.get(&command.vm)?.console.as_bytes();
        let (offset, length) = command.part_of(log.len() as u64);
        // Of a log in memory, neither is beyond what a usize holds.
        let part = log.iter().skip(offset as usize).take(length as usize);
        Some(ConsolePart {
            content: part.copied().collect(),
            offset,
            total_bytes: log.len() as u64,
        })
    }

    fn new_pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }
}

/// All simulated hosts, kept in files if a folder is given.
#[derive(Debug, Default)]
pub(crate) struct States {
    by_host: BTreeMap<HostUuid, HostState>,
    keep_in: Option<PathBuf>,
}

impl States {
    pub(crate) fn load(dir: &Path) -> Result<Self, StateError> {
        let mut by_host = BTreeMap::new();
        let failed = |path: &Path, cause| StateError::File {
            path: path.to_owned(),
            cause,
        };
        for entry in fs::read_dir(dir).map_err(|cause| failed(dir, cause))? {
            let path = entry
                .map_err(|cause| failed(dir, cause))?
                .path()
                .join("simulated.json");
            match fs::read(&path) {
                Ok(text) => {
                    let state: HostState = serde_json::from_slice(&text)
                        .map_err(|cause| StateError::Damaged { path, cause })?;
                    by_host.insert(state.host, state);
                }
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {}
                Err(cause) => return Err(failed(&path, cause)),
            }
        }
        Ok(Self {
            by_host,
            keep_in: Some(dir.to_owned()),
        })
    }

    /// Changes a host; one that was not known is empty.
    pub(crate) fn change<R>(
        &mut self,
        host: HostUuid,
        change: impl FnOnce(&mut HostState) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        let state = self
            .by_host
            .entry(host)
            .or_insert_with(|| HostState::new(host));
        let reply = change(state)?;
        if let Some(dir) = &self.keep_in {
            keep(dir, state).map_err(|error| {
                CommandError::failed(format!("keep the simulated host: {error}"))
            })?;
        }
        Ok(reply)
    }

    /// Changes a host by a command; where hosts are kept, its effect is counted.
    pub(crate) fn command<R>(
        &mut self,
        host: HostUuid,
        name: &str,
        change: impl FnOnce(&mut HostState) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        let is_kept = self.keep_in.is_some();
        self.change(host, |state| {
            let before = is_kept.then(|| state.clone());
            let reply = change(state)?;
            if before.is_some_and(|before| before != *state) {
                *state.effects.entry(name.to_owned()).or_default() += 1;
            }
            Ok(reply)
        })
    }

    /// The host; one that was not known is empty.
    pub(crate) fn get(&mut self, host: HostUuid) -> &HostState {
        self.by_host
            .entry(host)
            .or_insert_with(|| HostState::new(host))
    }

    /// In memory only: hosts that are kept are written with their next change.
    pub(crate) fn restore(&mut self, hosts: Vec<HostState>) {
        self.by_host = hosts.into_iter().map(|state| (state.host, state)).collect();
    }

    pub(crate) fn all(&self) -> Vec<HostState> {
        self.by_host.values().cloned().collect()
    }
}

/// Not synced: it must outlive the process, not the machine.
fn keep(dir: &Path, state: &HostState) -> io::Result<()> {
    let folder = dir.join(state.host.to_string());
    fs::create_dir_all(&folder)?;
    let temporary = folder.join("simulated.json.tmp");
    fs::write(&temporary, serde_json::to_vec(state)?)?;
    fs::rename(temporary, folder.join("simulated.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(vm: Uuid, path: &str) -> StartVm {
        StartVm {
            vm,
            name: "web".to_owned(),
            cpu_count: 1,
            memory_bytes: 1 << 30,
            root_volume_path: path.to_owned(),
            nics: Vec::new(),
        }
    }

    #[test]
    fn commands_are_idempotent_and_a_contradiction_is_refused() {
        let mut host = HostState::new(HostUuid::generate());
        let (vm, volume) = (Uuid::new_v4(), Uuid::new_v4());
        let mut create = CreateVolume {
            volume,
            pool_path: "/pool".to_owned(),
            size_bytes: 7,
            template: None,
        };
        let facts = host.create_volume(&create).unwrap();
        assert_eq!(host.create_volume(&create).unwrap(), facts);
        create.size_bytes = 8;
        assert_eq!(
            host.create_volume(&create).unwrap_err().code,
            CommandErrorCode::Invalid
        );

        assert!(host.start_vm(start(vm, "/elsewhere")).is_err());
        let first = host.start_vm(start(vm, &facts.path)).unwrap();
        assert_eq!(host.start_vm(start(vm, &facts.path)).unwrap(), first);
        assert_eq!(host.running(), [vm]);
        host.reboot_vm(vm).unwrap();
        assert_ne!(host.vms[&vm].pid, first.pid);
        host.stop_vm(vm);
        host.stop_vm(vm);
        assert_eq!(
            host.vms[&vm].console,
            "simulated web: boot\nsimulated web: reboot\nsimulated web: power off\n"
        );
        assert!(host.running().is_empty());
        assert_eq!(
            host.reboot_vm(vm).unwrap_err().code,
            CommandErrorCode::NotFound
        );
    }

    #[test]
    fn a_kept_host_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostUuid::generate();
        let mut states = States::load(dir.path()).unwrap();
        let create = CreateVolume {
            volume: Uuid::new_v4(),
            pool_path: "/pool".to_owned(),
            size_bytes: 7,
            template: None,
        };
        for _ in 0..2 {
            states
                .command(host, "create-volume", |state| state.create_volume(&create))
                .unwrap();
        }
        let effects = &states.get(host).effects;
        assert_eq!(
            effects["create-volume"], 1,
            "the second one changed nothing"
        );
        assert_eq!(States::load(dir.path()).unwrap().all(), states.all());
    }
}
