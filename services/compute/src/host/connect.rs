//! Connecting: the agent says what the host is and has, and the row says it from then on.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_agent::Head;
use cairn_agent_protocol::{Connect, HostFacts};
use cairn_flow::gc;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::{Host, HostStatus, ReconnectHostRequest},
    fault::Fault,
    meta::Resource,
    network::internal::v1alpha1 as network,
    storage::internal::v1alpha1 as storage,
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::{ErrorCode, OperationUuid, TaskUuid};
use tracing::warn;

use super::{Hosts, agent_of};
use crate::vm_instance;

/// The agent answers from what it knows; more than this is a hanging machine.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Processors of virtual machines that one processor of a host may serve.
pub(crate) const VIRTUAL_CPUS_PER_CPU: u32 = 10;

pub(super) struct Reconnect(pub(super) Arc<Hosts>);

#[async_trait]
impl KeyedHandler for Reconnect {
    type Request = ReconnectHostRequest;
    type Resource = Host;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<Host>, Fault> {
        let uuid = Arc::new(request.uuid.clone());
        let host = self.0.store.get::<Host>(&uuid).await?;
        let host = host.ok_or_else(|| Fault::not_found(Host::NOUN, &uuid))?;
        let agent = agent_of(&host).ok_or_else(|| {
            let message = format!("host {uuid} has no usable address: `{}`", host.address);
            Fault::new(ErrorCode::WrongState, message).on(Host::NOUN, &uuid)
        })?;
        let asked = now();
        cx.progress(10, format!("connecting to the agent at {}", host.address));
        self.0.agents.set_address(agent.0, agent.1);
        let head = Head {
            task: TaskUuid::of_step(cx.uuid(), "connect", "run"),
            operation: cx.uuid(),
            resource: agent.0.0,
            token: self.0.token,
            timeout: TIME_LIMIT,
        };
        let delivered = match self.0.agents.call(agent.0, head, &Connect {}).await {
            Ok(delivered) => delivered,
            Err(error) => {
                self.disconnected(&uuid).await?;
                return Err(Fault::of(&error).on(Host::NOUN, &uuid));
            }
        };
        let facts = match delivered.reply {
            Ok(facts) => facts,
            Err(error) => {
                let message = format!("the agent cannot say what host {uuid} is: {error}");
                return Err(Fault::new(ErrorCode::AgentFailed, message).on(Host::NOUN, &uuid));
            }
        };
        cx.progress(50, "preparing its networks and storages");
        self.prepare(&host, cx.uuid()).await?;
        let ended = cx
            .finish(move |tx| {
                let (uuid, facts) = (Arc::clone(&uuid), facts.clone());
                Box::pin(async move {
                    vm_instance::host_connected(tx, &uuid, &facts.running_vms, asked).await?;
                    gc::wake(tx, Host::NOUN, &uuid).await?;
                    connected(tx, &uuid, facts).await
                })
            })
            .await?;
        delivered.ack.committed();
        // What was attached in between did not see the host: it was not connected yet.
        if let Err(fault) = self.prepare(&host, cx.uuid()).await {
            warn!(
                host = host.uuid,
                error = fault.message,
                "prepare a host that has connected"
            );
        }
        Ok(ended)
    }
}

impl Reconnect {
    /// Has the host get what its cluster has. A cloud without networks or storages has nothing.
    async fn prepare(&self, host: &Host, operation: OperationUuid) -> Result<(), Fault> {
        let request = network::PrepareHostRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            operation_uuid: operation.to_string(),
        };
        let networks = self.0.networks.prepare_host(request).await.map(|_| ());
        let request = storage::PrepareHostRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            operation_uuid: operation.to_string(),
        };
        let storages = self.0.storages.prepare_host(request).await.map(|_| ());
        for prepared in [networks, storages] {
            match prepared {
                Err(status) if status.code() != tonic::Code::Unimplemented => {
                    return Err(Fault::from_status(&status));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn disconnected(&self, uuid: &str) -> Result<(), Fault> {
        let uuid = uuid.to_owned();
        self.0
            .store
            .write(move |tx| {
                let uuid = uuid.clone();
                Box::pin(async move {
                    if let Some(mut host) = tx.get::<Host>(&uuid).await? {
                        host.set_status(HostStatus::Disconnected);
                        tx.update(&host).await?;
                        vm_instance::host_lost(tx, &uuid).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

async fn connected(tx: &mut Tx, uuid: &str, facts: HostFacts) -> Result<Host, Fault> {
    let host = tx.get::<Host>(uuid).await?;
    let mut host = host.ok_or_else(|| Fault::not_found(Host::NOUN, uuid))?;
    // What is reserved stays reserved when the machine comes back larger or smaller.
    let reserved_memory = host
        .memory_bytes
        .saturating_sub(host.available_memory_bytes);
    let virtual_cpus = |cpus: u32| cpus.saturating_mul(VIRTUAL_CPUS_PER_CPU);
    let reserved_cpus = virtual_cpus(host.cpu_count).saturating_sub(host.available_cpu_count);
    host.cpu_count = facts.cpu_count;
    host.available_cpu_count = virtual_cpus(facts.cpu_count).saturating_sub(reserved_cpus);
    host.memory_bytes = facts.memory_bytes;
    host.available_memory_bytes = facts.memory_bytes.saturating_sub(reserved_memory);
    host.operating_system = facts.operating_system;
    host.hypervisor_version = facts.hypervisor_version;
    host.boot_id = facts.boot_id;
    host.set_status(HostStatus::Connected);
    host.stamp(now());
    tx.update(&host).await?;
    Ok(host)
}
