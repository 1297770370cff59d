//! The agent: each command of the protocol, done on this host.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use tracing::info;

use crate::{
    Accelerator, KvmConfig, KvmError,
    dhcp::Dhcp,
    facts, inventory,
    network::Network,
    process::boot_id,
    programs::Programs,
    storage::Storage,
    vms::{Hypervisor, Vms},
};
use cairn_agent_protocol::{
    Agent, ApplyDhcp, Behind, CacheImage, CommandError, Connect, ConsolePart, CreateVolume,
    DeleteBridge, DeleteImage, DeleteVolume, DestroyVm, EnsureBridge, HostFacts, HostInventory,
    HostStatus, ImageFacts, PoolFacts, PoolSpace, ReadConsole, RebootVm, RemoveStray, StartVm,
    StopVm, Stray, TakeInventory, TaskContext, VmFacts, VolumeFacts,
};
use cairn_types::HostUuid;

/// The agent of one host.
pub struct KvmAgent {
    host: HostUuid,
    directory: PathBuf,
    boot_id: String,
    hypervisor_version: String,
    accelerator: Accelerator,
    network: Network,
    dhcp: Dhcp,
    storage: Storage,
    vms: Vms,
}

impl KvmAgent {
    /// Sees whether QEMU is there, has its accelerator chosen, and adopts the virtual machines
    /// that run.
    ///
    /// # Errors
    /// If QEMU is not there, or the state folder cannot be used.
    pub async fn open(config: &KvmConfig) -> Result<Self, KvmError> {
        let directory: &PathBuf = config.directory.get_ref();
        std::fs::create_dir_all(directory).map_err(KvmError::file(directory))?;
        let namespace = config.network_namespace.as_ref();
        let programs = Programs {
            network_namespace: namespace.map(|name| name.get_ref().clone()),
        };
        let (qemu, machine) = (config.qemu.as_str(), config.machine.get_ref().as_str());
        let hypervisor_version = facts::hypervisor(&programs, qemu).await?;
        let accelerator =
            Accelerator::choose(config.accelerator, &programs, (qemu, machine), directory).await?;
        let network = Network {
            programs: programs.clone(),
        };
        let hypervisor = Hypervisor {
            qemu: qemu.to_owned(),
            machine: machine.to_owned(),
            accelerator,
        };
        let vms = Vms::adopt(directory, network.clone(), hypervisor).await?;
        let running = vms.running().len();
        info!(hypervisor_version, ?accelerator, running, "ready");
        Ok(Self {
            host: config.host,
            directory: directory.clone(),
            boot_id: boot_id()?,
            hypervisor_version,
            accelerator,
            network,
            dhcp: Dhcp {
                directory: directory.join("dhcp"),
                host: config.host,
                programs: programs.clone(),
            },
            storage: Storage { programs },
            vms,
        })
    }

    /// What runs guests here.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }
}

#[async_trait]
impl Agent for KvmAgent {
    async fn status(&self, _: HostUuid) -> HostStatus {
        HostStatus {
            boot_id: self.boot_id.clone(),
            running: self.vms.running(),
        }
    }

    async fn changed(&self) -> HostUuid {
        self.vms.ended().await;
        self.host
    }

    async fn connect(&self, cx: &TaskContext, _: Connect) -> Result<HostFacts, CommandError> {
        let (cpu_count, memory_bytes) = facts::size()?;
        Ok(HostFacts {
            cpu_count,
            memory_bytes,
            operating_system: facts::operating_system()?,
            hypervisor_version: self.hypervisor_version.clone(),
            boot_id: self.boot_id.clone(),
            agent_incarnation: cx.agent_incarnation,
            running_vms: self.vms.running(),
        })
    }

    async fn pool_facts(
        &self,
        _: &TaskContext,
        command: PoolFacts,
    ) -> Result<PoolSpace, CommandError> {
        Ok(self.storage.pool_facts(&command.path).await?)
    }

    async fn cache_image(
        &self,
        _: &TaskContext,
        command: CacheImage,
    ) -> Result<ImageFacts, CommandError> {
        Ok(self.storage.cache_image(&command).await?)
    }

    async fn delete_image(
        &self,
        _: &TaskContext,
        command: DeleteImage,
    ) -> Result<(), CommandError> {
        Ok(self.storage.delete_image(&command).await?)
    }

    async fn ensure_bridge(
        &self,
        _: &TaskContext,
        command: EnsureBridge,
    ) -> Result<(), CommandError> {
        let EnsureBridge { bridge, interface } = command;
        Ok(self.network.ensure_bridge(&bridge, &interface).await?)
    }

    async fn delete_bridge(
        &self,
        _: &TaskContext,
        command: DeleteBridge,
    ) -> Result<(), CommandError> {
        Ok(self.network.delete_bridge(&command.bridge).await?)
    }

    async fn apply_dhcp(
        &self,
        _: &TaskContext,
        command: ApplyDhcp,
    ) -> Result<Option<Behind>, CommandError> {
        Ok(self.dhcp.apply(command).await?)
    }

    async fn create_volume(
        &self,
        _: &TaskContext,
        command: CreateVolume,
    ) -> Result<VolumeFacts, CommandError> {
        Ok(self.storage.create_volume(&command).await?)
    }

    async fn delete_volume(
        &self,
        _: &TaskContext,
        command: DeleteVolume,
    ) -> Result<(), CommandError> {
        Ok(self.storage.delete_volume(&command).await?)
    }

    async fn start_vm(&self, _: &TaskContext, command: StartVm) -> Result<VmFacts, CommandError> {
        let pid = self.vms.start(command).await?;
        Ok(VmFacts { pid: Some(pid) })
    }

    async fn stop_vm(&self, _: &TaskContext, command: StopVm) -> Result<(), CommandError> {
        let grace = Duration::from_secs(command.grace_secs.into());
        Ok(self.vms.stop(command.vm, grace).await?)
    }

    async fn reboot_vm(&self, _: &TaskContext, command: RebootVm) -> Result<(), CommandError> {
        Ok(self.vms.reboot(command.vm).await?)
    }

    async fn destroy_vm(&self, _: &TaskContext, command: DestroyVm) -> Result<(), CommandError> {
        Ok(self.vms.destroy(command.vm).await?)
    }

    async fn read_console(
        &self,
        _: &TaskContext,
        command: ReadConsole,
    ) -> Result<Option<ConsolePart>, CommandError> {
        Ok(self.vms.read_console(&command).await?)
    }

    async fn take_inventory(
        &self,
        _: &TaskContext,
        command: TakeInventory,
    ) -> Result<HostInventory, CommandError> {
        let running = inventory::running(&self.directory).await?;
        let (taps, bridges) = self.network.seen().await?;
        let mut files = Vec::new();
        for pool in &command.pools {
            files.extend(self.storage.files(pool).await?);
        }
        Ok(HostInventory {
            vm_processes: running.vms,
            vm_folders: self.vms.folders()?,
            taps,
            bridges,
            dhcp_servers: running.dhcp_servers,
            files,
        })
    }

    async fn remove_stray(
        &self,
        _: &TaskContext,
        command: RemoveStray,
    ) -> Result<(), CommandError> {
        let what = command.stray.to_string();
        self.remove(command.stray).await?;
        info!(what, "removed, since it is nobody's");
        Ok(())
    }
}

impl KvmAgent {
    async fn remove(&self, stray: Stray) -> Result<(), KvmError> {
        match stray {
            Stray::VmProcess {
                vm,
                pid,
                with_folder,
            } => self.vms.remove_process(vm, pid, with_folder).await,
            Stray::VmFolder { vm } => self.vms.remove_folder(vm).await,
            Stray::Tap { name } => match self.vms.runs_with(&name)? {
                Some(vm) => Err(KvmError::Refused(format!(
                    "virtual machine {vm} runs with {name}"
                ))),
                None => self.network.remove_tap(&name).await,
            },
            Stray::Bridge { name } => {
                self.network.check_unplugged(&name).await?;
                self.dhcp.forget(&name).await?;
                self.network.delete_bridge(&name).await
            }
            Stray::BridgePort { bridge, port } => self.network.unplug(&bridge, &port).await,
            Stray::Dhcp { bridge } => self.dhcp.forget(&bridge).await,
            Stray::File { path } => self.storage.remove_file(&path).await,
        }
    }
}
