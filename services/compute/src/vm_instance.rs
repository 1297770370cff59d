//! Virtual machines: created, started, stopped, rebooted and destroyed by flows.
//!
//! Each operation is one [`Handler`](cairn_operation::Handler) that runs one flow; the flows share
//! steps. Only what is in this folder changes the state of a virtual machine, and only along the
//! table in [`state`].

mod capacity;
mod console;
mod create;
mod destroy;
mod detach_nic;
mod devices;
mod expunge;
mod hypervisor;
mod instantiation;
mod lifecycle;
mod observed;
mod placement;
mod serve;
mod state;

use std::{sync::Arc, time::Duration};

use cairn_agent::{Ack, Agents, Hosts, Task, stored_uuid};
use cairn_agent_protocol::AgentCommand;
use cairn_flow::{FlowError, Flows, Registry, StepContext};
use cairn_operation::Builder;
use cairn_proto::{
    call::Mesh,
    compute::{
        ext::v1alpha1::VmInstantiationExtensions,
        v1alpha1::{UpdateVmInstanceRequest, VmInstance},
    },
    fault::Fault,
    meta::Resource as _,
    network::internal::v1alpha1::NetworkInternalClient,
    storage::{
        internal::v1alpha1::StorageInternalClient,
        v1alpha1::{PrimaryStorageAttachmentClient, VolumeClient},
    },
};
use cairn_resource::{DeletionPolicy, Updating};
use cairn_types::{ErrorCode, HostUuid};

pub(crate) use capacity::count_on_host;
pub(crate) use expunge::expunge_due;
pub(crate) use observed::{found, host_connected, host_lost, host_told};
pub(crate) use serve::VmInstances;

const FLOWS: [(&str, &str); 8] = [
    (
        "create-vm-instance.toml",
        include_str!("../flows/create-vm-instance.toml"),
    ),
    (
        "start-vm-instance.toml",
        include_str!("../flows/start-vm-instance.toml"),
    ),
    (
        "stop-vm-instance.toml",
        include_str!("../flows/stop-vm-instance.toml"),
    ),
    (
        "reboot-vm-instance.toml",
        include_str!("../flows/reboot-vm-instance.toml"),
    ),
    (
        "destroy-vm-instance.toml",
        include_str!("../flows/destroy-vm-instance.toml"),
    ),
    (
        "set-aside-vm-instance.toml",
        include_str!("../flows/set-aside-vm-instance.toml"),
    ),
    (
        "expunge-vm-instance.toml",
        include_str!("../flows/expunge-vm-instance.toml"),
    ),
    (
        "detach-vm-instance-nic.toml",
        include_str!("../flows/detach-vm-instance-nic.toml"),
    ),
];

/// What the steps need.
pub(crate) struct Vms {
    pub(crate) hosts: Hosts,
    pub(crate) networks: NetworkInternalClient,
    pub(crate) storages: StorageInternalClient,
    pub(crate) volumes: VolumeClient,
    pub(crate) attachments: PrimaryStorageAttachmentClient,
    pub(crate) instantiation: VmInstantiationExtensions,
    /// What a delete does.
    pub(crate) policy: DeletionPolicy,
}

impl Vms {
    pub(crate) fn new(
        mesh: &Mesh,
        agents: Agents,
        token: u64,
        policy: DeletionPolicy,
    ) -> Arc<Self> {
        Arc::new(Self {
            hosts: Hosts::new(mesh.clone(), agents, token),
            networks: NetworkInternalClient::new(mesh.clone()),
            storages: StorageInternalClient::new(mesh.clone()),
            volumes: VolumeClient::new(mesh.clone()),
            attachments: PrimaryStorageAttachmentClient::new(mesh.clone()),
            instantiation: VmInstantiationExtensions::new(mesh.clone()),
            policy,
        })
    }
}

/// The steps, and the flows of them.
pub(crate) fn steps(registry: &mut Registry, vms: &Arc<Vms>) {
    let policy = vms.policy;
    let vms = || Arc::clone(vms);
    lifecycle::steps(registry);
    registry
        .step(placement::AllocateHost(vms()))
        .step(devices::SelectBackupStorage(vms()))
        .step(devices::AllocatePrimaryStorage(vms()))
        .step(devices::CacheImage(vms()))
        .step(devices::AllocateVolume(vms()))
        .step(devices::AllocateNic(vms()))
        .step(devices::ListDevices(vms()))
        .step(devices::CheckAttached(vms()))
        .step(devices::ReleaseNics(vms()))
        .step(devices::ReleaseVolume(vms()))
        .step(instantiation::InstantiatePre(vms()))
        .step(instantiation::InstantiatePost(vms()))
        .step(instantiation::ReleaseInstantiation(vms()))
        .step(hypervisor::CreateOnHypervisor(vms()))
        .step(hypervisor::StopOnHypervisor(vms()))
        .step(hypervisor::RebootOnHypervisor(vms()))
        .step(hypervisor::DestroyOnHypervisor(vms()))
        .step(destroy::EnterDestroying::DESTROY)
        .step(destroy::EnterDestroying::SET_ASIDE)
        .step(destroy::EnterDestroying::expunge(policy))
        .step(detach_nic::CheckNic(vms()))
        .step(detach_nic::ReleaseNic(vms()));
    for (file, text) in FLOWS {
        registry.flow(file, text);
    }
}

/// Adds the handlers, with their flows.
///
/// # Errors
/// If a flow does not fit its handler.
pub(crate) fn register(
    operations: Builder,
    vms: &Vms,
    flows: &mut Flows,
) -> Result<Builder, FlowError> {
    Ok(operations
        .register(create::Create::new(flows)?)
        .register(lifecycle::Lifecycle::start(flows)?)
        .register(lifecycle::Lifecycle::stop(flows)?)
        .register(lifecycle::Lifecycle::reboot(flows)?)
        .register(destroy::Delete::new(vms.policy, flows)?)
        .register(destroy::Recover)
        .register(destroy::Expunge::new(flows)?)
        .register(detach_nic::DetachNic::new(flows)?)
        .register(Updating::<UpdateVmInstanceRequest>::plain()))
}

impl Vms {
    /// Sends a command for a virtual machine to its host, as the task of a step, and waits until
    /// it took place. The acknowledgement is for when the step's outcome is committed.
    async fn command<C: AgentCommand>(
        &self,
        cx: &StepContext<'_>,
        vm: &VmInstance,
        limit: Duration,
        command: &C,
    ) -> Result<Ack, Fault> {
        let host = HostUuid(stored_uuid(vm.host_uuid.as_deref().unwrap_or_default())?);
        let task = Task {
            task: cx.task(),
            operation: cx.operation().uuid(),
            resource: stored_uuid(&vm.uuid)?,
            limit,
        };
        let called = self.hosts.call(host, task, command).await;
        let (_, ack) = called.map_err(|fault| match fault.code {
            // What failed is the host, and who tries again waits for that.
            ErrorCode::AgentUnreachable => fault,
            _ => fault.on(VmInstance::NOUN, &vm.uuid),
        })?;
        Ok(ack)
    }
}
