//! Addresses by DHCP, the flat way: each host serves the virtual machines that it runs, from an
//! address of its own, and nobody else. It takes part in the start and the stop of virtual machines
//! as `flat-dhcp`.
//!
//! What a bridge of a host is to serve is made from rows and numbered in the transaction of the
//! change. The host ignores what is older than what it has, so commands may overtake each other:
//! whoever's change is in the rows is in every later command too. A command has all that was added
//! after the revision that the host is known to have; or simply all, if something was taken away
//! since, or the host turns out not to have that revision any more.

mod host_name;
pub(crate) mod rows;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_agent::Task;
use cairn_agent_protocol::ApplyDhcp;
use cairn_proto::{
    compute::{
        ext::v1alpha1::{
            ObservedRequest, ObservedResponse, PrepareRequest, PrepareResponse, ReleaseRequest,
            ReleaseResponse, vm_instantiation_service_server::VmInstantiationService,
        },
        v1alpha1::{Host, VmInstance},
    },
    fault::Fault,
    meta::Resource as _,
    network::v1alpha1::VmNic,
};
use cairn_store::Tx;
use cairn_types::{HostUuid, InvalidUuid, OperationUuid, TaskUuid, Uuid};
use tonic::{Request, Response, Status};

use rows::Lease;
pub(crate) use rows::serves_from;

use crate::Area;

/// The name of this implementer.
pub(crate) const IMPLEMENTER: &str = "flat-dhcp";

/// Less than an implementer of an extension point gets, so that the host's answer is what is told.
const LIMIT: Duration = Duration::from_secs(8);

/// On whose behalf a host is changed.
#[derive(Debug, Clone, Copy)]
struct Behalf {
    task: TaskUuid,
    operation: OperationUuid,
}

impl Behalf {
    fn parse(task: &str, operation: &str) -> Result<Self, Fault> {
        let wrong =
            |field: &'static str| move |error: InvalidUuid| Fault::field(field, error.to_string());
        Ok(Self {
            task: task.parse().map_err(wrong("task_uuid"))?,
            operation: operation.parse().map_err(wrong("operation_uuid"))?,
        })
    }
}

/// This area's part in the start and the stop of virtual machines.
pub(crate) struct FlatDhcp(pub(crate) Arc<Area>);

#[async_trait]
impl VmInstantiationService for FlatDhcp {
    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        let request = request.into_inner();
        let behalf = Behalf::parse(&request.task_uuid, &request.operation_uuid)?;
        let vm = request.vm_instance.unwrap_or_default();
        let found = self.0.hosts.find(&request.host_uuid).await?;
        let (host, _) = found.ok_or_else(|| Fault::not_found(Host::NOUN, &request.host_uuid))?;
        let nics = request.nics.into_iter();
        let leases: Vec<_> = nics
            .map(|nic| lease(&vm, nic.vm_nic.unwrap_or_default(), nic.bridge))
            .collect();
        let wanted = self.0.store.write(move |tx| {
            let leases = leases.clone();
            Box::pin(async move { rows::add(tx, host, &leases).await })
        });
        self.0.apply_dhcp(behalf, host, wanted.await?).await?;
        Ok(Response::new(PrepareResponse {}))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        let request = request.into_inner();
        let behalf = Behalf::parse(&request.task_uuid, &request.operation_uuid)?;
        let vm = request.vm_instance.unwrap_or_default().uuid;
        let host = request.host_uuid.parse();
        let host =
            host.map_err(|error: InvalidUuid| Fault::field("host_uuid", error.to_string()))?;
        let wanted = self.0.store.write(move |tx| {
            let vm = vm.clone();
            Box::pin(async move { rows::remove(tx, host, &vm).await })
        });
        let wanted = wanted.await?;
        if !wanted.is_empty() && self.0.hosts.find(&request.host_uuid).await?.is_none() {
            // What a host had that is not there any more is gone with it.
            self.0.settle(host, &wanted).await?;
        } else {
            self.0.apply_dhcp(behalf, host, wanted).await?;
        }
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn observed(
        &self,
        _: Request<ObservedRequest>,
    ) -> Result<Response<ObservedResponse>, Status> {
        // The guest asks when it likes.
        Ok(Response::new(ObservedResponse {}))
    }
}

/// The queue at the agent of what is done to a bridge of its host.
pub(crate) fn queue(host: HostUuid, bridge: &str) -> Uuid {
    Uuid::new_v5(&host.0, bridge.as_bytes())
}

fn lease(vm: &VmInstance, nic: VmNic, bridge: String) -> Lease {
    Lease {
        nic: nic.uuid,
        vm: vm.uuid.clone(),
        bridge,
        l3_network: nic.l3_network_uuid,
        gateway: nic.gateway,
        prefix_length: nic.prefix_length,
        mac: nic.mac,
        ip: nic.ip,
        host_name: host_name::of(&vm.name, &vm.uuid),
    }
}

impl Area {
    /// Has a host that has just connected serve what it is to: it may have lost it.
    pub(crate) async fn restore_dhcp(
        &self,
        operation: OperationUuid,
        host: HostUuid,
    ) -> Result<(), Fault> {
        let wanted = self
            .store
            .write(move |tx: &mut Tx| Box::pin(async move { rows::all(tx, host).await }));
        let task = TaskUuid::of_step(operation, "prepare-host/dhcp", "run");
        self.apply_dhcp(Behalf { task, operation }, host, wanted.await?)
            .await
    }

    /// Has a bridge of a host serve all that it is to, and nothing else.
    pub(crate) async fn serve(
        &self,
        task: TaskUuid,
        operation: OperationUuid,
        host: HostUuid,
        bridge: &str,
    ) -> Result<(), Fault> {
        let whole = self.whole(host, bridge.to_owned()).await?;
        let behalf = Behalf { task, operation };
        self.apply_dhcp(behalf, host, vec![whole]).await
    }

    async fn apply_dhcp(
        &self,
        Behalf { task, operation }: Behalf,
        host: HostUuid,
        wanted: Vec<ApplyDhcp>,
    ) -> Result<(), Fault> {
        for mut command in wanted {
            let ack = loop {
                let ApplyDhcp {
                    bridge, revision, ..
                } = &command;
                // A repeat finds other rows, so it is another task: its effect is in the revision.
                let name = format!("{IMPLEMENTER}/{bridge}/{revision}");
                let task = Task {
                    task: TaskUuid(Uuid::new_v5(&task.0, name.as_bytes())),
                    operation,
                    resource: queue(host, bridge),
                    limit: LIMIT,
                };
                let (behind, ack) = self.hosts.call(host, task, &command).await?;
                if behind.is_none() || command.since.is_none() {
                    break ack;
                }
                // It has lost what this adds to.
                command = self.whole(host, command.bridge).await?;
                ack.committed();
            };
            self.settle(host, std::slice::from_ref(&command)).await?;
            ack.committed();
        }
        Ok(())
    }

    async fn whole(&self, host: HostUuid, bridge: String) -> Result<ApplyDhcp, Fault> {
        let whole = self.store.write(move |tx| {
            let bridge = bridge.clone();
            Box::pin(async move { rows::whole(tx, host, bridge).await })
        });
        whole.await
    }

    /// Notes what a host has, and gives back what it has no longer.
    async fn settle(&self, host: HostUuid, applied: &[ApplyDhcp]) -> Result<(), Fault> {
        let applied = applied.iter();
        let applied: Vec<_> = applied
            .map(|command| (command.bridge.clone(), command.revision))
            .collect();
        let settled = self.store.write(move |tx| {
            let applied = applied.clone();
            Box::pin(async move {
                for (bridge, revision) in &applied {
                    rows::settle(tx, host, bridge, *revision).await?;
                }
                Ok(())
            })
        });
        settled.await
    }
}
