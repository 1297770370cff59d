//! The agent of simulated hosts: each command is an entry in a table.

use async_trait::async_trait;

use crate::Simulator;
use cairn_agent_protocol::{
    Agent, AgentCommand as _, ApplyDhcp, Behind, CacheImage, CommandError, Connect, ConsolePart,
    CreateVolume, DeleteBridge, DeleteImage, DeleteVolume, DestroyVm, EnsureBridge, HostFacts,
    HostInventory, HostStatus, ImageFacts, PoolFacts, PoolSpace, ReadConsole, RebootVm,
    RemoveStray, StartVm, StopVm, TakeInventory, TaskContext, VmFacts, VolumeFacts,
};
use cairn_types::HostUuid;

#[async_trait]
impl Agent for Simulator {
    async fn status(&self, host: HostUuid) -> HostStatus {
        self.with_host(host, |state| HostStatus {
            boot_id: state.boot_id.to_string(),
            running: state.running(),
        })
    }

    async fn changed(&self) -> HostUuid {
        self.next_change().await
    }

    async fn connect(&self, cx: &TaskContext, _: Connect) -> Result<HostFacts, CommandError> {
        self.run(Connect::NAME, cx, |state| {
            Ok(HostFacts {
                cpu_count: state.size.cpu_count,
                memory_bytes: state.size.memory_bytes,
                operating_system: "simulated".to_owned(),
                hypervisor_version: concat!("simulator ", env!("CARGO_PKG_VERSION")).to_owned(),
                boot_id: state.boot_id.to_string(),
                agent_incarnation: cx.agent_incarnation,
                running_vms: state.running(),
            })
        })
        .await
    }

    async fn pool_facts(&self, cx: &TaskContext, _: PoolFacts) -> Result<PoolSpace, CommandError> {
        self.run(PoolFacts::NAME, cx, |state| Ok(state.pool_space()))
            .await
    }

    async fn cache_image(
        &self,
        cx: &TaskContext,
        command: CacheImage,
    ) -> Result<ImageFacts, CommandError> {
        self.run(CacheImage::NAME, cx, |state| state.cache_image(command))
            .await
    }

    async fn delete_image(
        &self,
        cx: &TaskContext,
        command: DeleteImage,
    ) -> Result<(), CommandError> {
        self.run(DeleteImage::NAME, cx, |state| {
            state.images.remove(&command.path);
            Ok(())
        })
        .await
    }

    async fn ensure_bridge(
        &self,
        cx: &TaskContext,
        command: EnsureBridge,
    ) -> Result<(), CommandError> {
        self.run(EnsureBridge::NAME, cx, |state| state.ensure_bridge(command))
            .await
    }

    async fn delete_bridge(
        &self,
        cx: &TaskContext,
        command: DeleteBridge,
    ) -> Result<(), CommandError> {
        self.run(DeleteBridge::NAME, cx, |state| {
            state.delete_bridge(&command)
        })
        .await
    }

    async fn apply_dhcp(
        &self,
        cx: &TaskContext,
        command: ApplyDhcp,
    ) -> Result<Option<Behind>, CommandError> {
        self.run(ApplyDhcp::NAME, cx, |state| state.apply_dhcp(command))
            .await
    }

    async fn create_volume(
        &self,
        cx: &TaskContext,
        command: CreateVolume,
    ) -> Result<VolumeFacts, CommandError> {
        self.run(CreateVolume::NAME, cx, |state| {
            state.create_volume(&command)
        })
        .await
    }

    async fn delete_volume(
        &self,
        cx: &TaskContext,
        command: DeleteVolume,
    ) -> Result<(), CommandError> {
        self.run(DeleteVolume::NAME, cx, |state| {
            state.volumes.remove(&command.volume);
            Ok(())
        })
        .await
    }

    async fn start_vm(&self, cx: &TaskContext, command: StartVm) -> Result<VmFacts, CommandError> {
        self.run(StartVm::NAME, cx, |state| state.start_vm(command))
            .await
    }

    async fn stop_vm(&self, cx: &TaskContext, command: StopVm) -> Result<(), CommandError> {
        self.run(StopVm::NAME, cx, |state| {
            state.stop_vm(command.vm);
            Ok(())
        })
        .await
    }

    async fn reboot_vm(&self, cx: &TaskContext, command: RebootVm) -> Result<(), CommandError> {
        self.run(RebootVm::NAME, cx, |state| state.reboot_vm(command.vm))
            .await
    }

    async fn destroy_vm(&self, cx: &TaskContext, command: DestroyVm) -> Result<(), CommandError> {
        self.run(DestroyVm::NAME, cx, |state| {
            state.vms.remove(&command.vm);
            Ok(())
        })
        .await
    }

    async fn read_console(
        &self,
        cx: &TaskContext,
        command: ReadConsole,
    ) -> Result<Option<ConsolePart>, CommandError> {
        self.run(ReadConsole::NAME, cx, |state| Ok(state.console(&command)))
            .await
    }

    async fn take_inventory(
        &self,
        cx: &TaskContext,
        command: TakeInventory,
    ) -> Result<HostInventory, CommandError> {
        self.run(TakeInventory::NAME, cx, |state| {
            Ok(state.inventory(&command.pools))
        })
        .await
    }

    async fn remove_stray(
        &self,
        cx: &TaskContext,
        command: RemoveStray,
    ) -> Result<(), CommandError> {
        self.run(RemoveStray::NAME, cx, |state| {
            state.remove_stray(&command.stray)
        })
        .await
    }
}
