//! The steps that the host's agent does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_agent::stored_uuid;
use cairn_agent_protocol::{DestroyVm, NicSpec, RebootVm, StartVm, StopVm};
use cairn_flow::{Outcome, Step, StepContext};
use cairn_proto::{
    compute::v1alpha1::{Host, StopVmInstanceRequest, VmInstance},
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::ListNicsResponse,
    storage::v1alpha1::Volume,
};
use cairn_types::ErrorCode;

use super::{
    Vms,
    devices::{NICS, VOLUME},
};

const VM: &str = "cairn.compute.v1alpha1.VmInstance";
const STOP: &str = "cairn.compute.v1alpha1.StopVmInstanceRequest";

/// What an agent gets for one command.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// What a guest gets to power off by itself, unless the request says otherwise.
const GRACE_SECS: u32 = 30;

/// Starts the virtual machine on its host.
pub(super) struct CreateOnHypervisor(pub(super) Arc<Vms>);

#[async_trait]
impl Step for CreateOnHypervisor {
    fn name(&self) -> &'static str {
        "create-on-hypervisor"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, VOLUME, NICS]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let volume: Volume = cx.get()?;
        let nics: ListNicsResponse = cx.get()?;
        let mut specs = Vec::new();
        for nic in nics.nics {
            let row = nic.vm_nic.unwrap_or_default();
            specs.push(NicSpec {
                nic: stored_uuid(&row.uuid)?,
                mac: row.mac,
                bridge: nic.bridge,
                ip: Some(row.ip).filter(|ip| !ip.is_empty()),
            });
        }
        let command = StartVm {
            vm: stored_uuid(&vm.uuid)?,
            name: vm.name.clone(),
            cpu_count: vm.cpu_count,
            memory_bytes: vm.memory_bytes,
            root_volume_path: volume.install_path,
            nics: specs,
        };
        let started = self.0.command(cx, &vm, TIME_LIMIT, &command).await?;
        Ok(Outcome::none().then(|| started.committed()))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let command = DestroyVm {
            vm: stored_uuid(&vm.uuid)?,
        };
        let destroyed = self.0.command(cx, &vm, TIME_LIMIT, &command).await?;
        Ok(Outcome::none().then(|| destroyed.committed()))
    }
}

/// Stops the virtual machine on its host.
pub(super) struct StopOnHypervisor(pub(super) Arc<Vms>);

#[async_trait]
impl Step for StopOnHypervisor {
    fn name(&self) -> &'static str {
        "stop-on-hypervisor"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM, STOP]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let request: StopVmInstanceRequest = cx.get()?;
        let grace_secs = request.grace_secs.unwrap_or(GRACE_SECS);
        let command = StopVm {
            vm: stored_uuid(&vm.uuid)?,
            grace_secs,
        };
        let limit = TIME_LIMIT + Duration::from_secs(grace_secs.into());
        let stopped = self.0.command(cx, &vm, limit, &command).await?;
        Ok(Outcome::none().then(|| stopped.committed()))
    }
}

/// Reboots the virtual machine on its host.
pub(super) struct RebootOnHypervisor(pub(super) Arc<Vms>);

#[async_trait]
impl Step for RebootOnHypervisor {
    fn name(&self) -> &'static str {
        "reboot-on-hypervisor"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let command = RebootVm {
            vm: stored_uuid(&vm.uuid)?,
        };
        let rebooted = self.0.command(cx, &vm, TIME_LIMIT, &command).await?;
        Ok(Outcome::none().then(|| rebooted.committed()))
    }
}

/// Removes the virtual machine from its host.
pub(super) struct DestroyOnHypervisor(pub(super) Arc<Vms>);

#[async_trait]
impl Step for DestroyOnHypervisor {
    fn name(&self) -> &'static str {
        "destroy-on-hypervisor"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[VM]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let vm: VmInstance = cx.get()?;
        let command = DestroyVm {
            vm: stored_uuid(&vm.uuid)?,
        };
        let host = vm.host_uuid.as_deref().unwrap_or_default();
        match self.0.hosts.find(host).await? {
            // What a host had that is not there any more is gone with it.
            None => return Ok(Outcome::none()),
            Some((_, true)) => {}
            Some((_, false)) => {
                let message = format!("host {host} is not connected");
                let fault = Fault::new(ErrorCode::AgentUnreachable, message);
                return Err(fault.on(Host::NOUN, host));
            }
        }
        let destroyed = self.0.command(cx, &vm, TIME_LIMIT, &command).await?;
        Ok(Outcome::none().then(|| destroyed.committed()))
    }
}
