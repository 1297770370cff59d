//! Hosts: machines that an agent drives.

pub(crate) mod connect;
mod delete;
mod enroll;
mod maintenance;
mod monitor;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use cairn_agent::{Agents, HostRegistry};
use cairn_agent_protocol::Hello;
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::{
        Cluster, CreateHostRequest, Host, HostState, HostStatus, UpdateHostRequest,
    },
    crud::Check,
    fault::Fault,
    network::internal::v1alpha1::NetworkInternalClient,
    operation::v1alpha1::{Operation, OperationState},
    storage::internal::v1alpha1::StorageInternalClient,
};
use cairn_resource::{Change, Creating, Creation, Updating};
use cairn_store::{Store, StoreError, Tx};
use cairn_tls::Ca;
use cairn_types::{HostUuid, OperationUuid, chain};
use tokio::sync::mpsc;
use tracing::warn;

use crate::Needs;
use monitor::Heard;
pub(crate) use monitor::Monitor;

/// What agents said that may wait for the monitor. What finds no room is answered all the same:
/// the next round of pings sees the agent's new incarnation, and what its host has.
const HEARD: usize = 1_024;

/// What the handlers and the callback door share.
pub(crate) struct Hosts {
    store: Store,
    agents: Agents,
    ca: Arc<Ca>,
    callback_addresses: Vec<String>,
    token: u64,
    networks: NetworkInternalClient,
    storages: StorageInternalClient,
    heard: mpsc::Sender<Heard>,
}

pub(crate) fn new(needs: Needs) -> (Arc<Hosts>, Monitor) {
    let Needs {
        store,
        mesh,
        agents,
        ca,
        callback_addresses,
        token,
        watch,
        ..
    } = needs;
    let (say, heard) = mpsc::channel(HEARD);
    let networks = NetworkInternalClient::new(mesh.clone());
    let storages = StorageInternalClient::new(mesh.clone());
    let monitor = Monitor::new(store.clone(), agents.clone(), mesh, watch, heard);
    (
        Arc::new(Hosts {
            store,
            agents,
            ca,
            callback_addresses,
            token,
            networks,
            storages,
            heard: say,
        }),
        monitor,
    )
}

/// The steps, and the flows of them.
pub(crate) fn steps(registry: &mut Registry, hosts: &Arc<Hosts>) {
    delete::steps(registry, hosts);
}

/// Adds the handlers.
///
/// # Errors
/// If a flow does not fit its handler.
pub(crate) fn register(
    operations: Builder,
    hosts: &Arc<Hosts>,
    flows: &mut Flows,
) -> Result<Builder, FlowError> {
    let operations = maintenance::register(operations);
    let operations = operations
        .register(Creating::<CreateHostRequest, _>::with(New))
        .register(Updating::<UpdateHostRequest, _>::with(Changed))
        .register(delete::Delete::new(flows)?)
        .register(connect::Reconnect(Arc::clone(hosts)))
        .register(enroll::Enroll(Arc::clone(hosts)));
    Ok(operations)
}

impl Hosts {
    pub(crate) async fn learn_addresses(&self) -> Result<(), StoreError> {
        for row in self.store.list::<Host>("", vec![]).await? {
            if let Some((host, address)) = agent_of(&row) {
                self.agents.set_address(host, address);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl HostRegistry for Hosts {
    /// Only the certificate that a host enrolled with last, and only while the host is there.
    async fn admits(&self, host: HostUuid, fingerprint: &str) -> bool {
        match self.store.get::<Host>(&host.to_string()).await {
            Ok(found) => found.is_some_and(|row| row.certificate_fingerprint == fingerprint),
            Err(error) => {
                warn!(%host, error = %chain(&error), "look up a host at the callback door");
                false
            }
        }
    }

    async fn operation_ended(&self, operation: OperationUuid) -> bool {
        match self.store.get::<Operation>(&operation.to_string()).await {
            Ok(found) => found.is_none_or(|row| row.state() != OperationState::Accepted),
            Err(_) => false,
        }
    }

    async fn hello(&self, hello: Hello) {
        let heard = Heard::Hello(hello.host, hello.agent_incarnation);
        let _ = self.heard.try_send(heard);
    }

    async fn changed(&self, host: HostUuid) {
        let _ = self.heard.try_send(Heard::Changed(host));
    }
}

struct New;

#[async_trait]
impl Creation<CreateHostRequest> for New {
    fn check(&self, request: &CreateHostRequest, check: &mut Check) {
        check_address(&request.address, check);
    }

    async fn complete(
        &self,
        tx: &mut Tx,
        request: &CreateHostRequest,
        host: &mut Host,
    ) -> Result<(), Fault> {
        let cluster = tx.get::<Cluster>(&request.cluster_uuid).await?;
        let cluster = cluster.ok_or_else(|| Fault::not_found("cluster", &request.cluster_uuid))?;
        host.set_hypervisor_type(cluster.hypervisor_type());
        host.zone_uuid = cluster.zone_uuid;
        host.set_state(HostState::Enabled);
        host.set_status(HostStatus::Connecting);
        Ok(())
    }
}

struct Changed;

#[async_trait]
impl Change<UpdateHostRequest> for Changed {
    fn check(&self, request: &UpdateHostRequest, check: &mut Check) {
        if let Some(address) = &request.address {
            check_address(address, check);
        }
        if maintenance::is_in(request.state()) {
            let problem = "is given; a host enters maintenance by EnterHostMaintenance";
            check.refuse("state", problem);
        }
    }

    async fn complete(&self, _: &mut Tx, before: &Host, after: &mut Host) -> Result<(), Fault> {
        if before.state != after.state && maintenance::is_in(before.state()) {
            return Err(maintenance::must_leave(before));
        }
        Ok(())
    }
}

fn check_address(address: &str, check: &mut Check) {
    let usable = |address: SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
    if !address.parse().is_ok_and(usable) {
        let problem =
            format!("is `{address}`; give an IP address and a port, as in 192.0.2.10:7443");
        check.refuse("address", problem);
    }
}

/// A host's uuid and the address of its agent, from its row.
fn agent_of(host: &Host) -> Option<(HostUuid, SocketAddr)> {
    Some((host.uuid.parse().ok()?, host.address.parse().ok()?))
}
