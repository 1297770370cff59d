//! L2 networks, L3 networks and addresses: what virtual machines are plugged into.
//!
//! [`Network`] is this area of a node: it registers the handlers of its operations, and serves
//! its public rpcs and those that other services ask of it.
//!
//! What virtual machines are told of their addresses is in `dhcp`.
//!
//! Addresses and bridges are taken by conditional changes of rows; no queue guards them. What
//! another service owns, a host or a cluster, is asked for through the mesh.

mod address;
mod dhcp;
mod inspection;
mod internal;
mod ip_range;
mod l2_network;
mod l3_network;
mod vm_nic;

use std::sync::Arc;

use cairn_agent::{Agents, Hosts};
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Extension, Mesh},
    compute::{
        ext::v1alpha1::VmInstantiationDispatch,
        v1alpha1::{ClusterClient, VmInstanceClient},
    },
    doctor::v1alpha1::DoctorClient,
    network::{
        internal::v1alpha1::NetworkInternalDispatch,
        v1alpha1::{
            IpRangeDispatch, L2NetworkAttachmentDispatch, L2NetworkClient, L2NetworkDispatch,
            L3NetworkDispatch, VmNicDispatch,
        },
    },
    serve::Standard,
};
use cairn_resource::Resources;
use cairn_store::{Migration, Store};

use crate::{dhcp::FlatDhcp, internal::Internal};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "network",
        number: 1,
        name: "l2 network, l3 network, ip range, vm nic",
        sql: include_str!("../migrations/0001_network.sql"),
    },
    Migration {
        service: "network",
        number: 2,
        name: "dhcp",
        sql: include_str!("../migrations/0002_dhcp.sql"),
    },
    Migration {
        service: "network",
        number: 3,
        name: "bridge removing",
        sql: include_str!("../migrations/0003_bridge_removing.sql"),
    },
    Migration {
        service: "network",
        number: 4,
        name: "dhcp revision",
        sql: include_str!("../migrations/0004_dhcp_revision.sql"),
    },
];

/// What this area needs of the node that runs it.
pub struct Needs {
    /// The database.
    pub store: Store,
    /// The way to other services.
    pub mesh: Mesh,
    /// The agents of hosts.
    pub agents: Agents,
    /// The fencing token: the ring epoch at which this node proved that it owns what it changes.
    pub token: u64,
}

/// The network area of a node.
pub struct Network(Arc<Area>);

/// What the parts of the area share.
pub(crate) struct Area {
    store: Store,
    clusters: ClusterClient,
    vms: VmInstanceClient,
    doctor: DoctorClient,
    l2_networks: L2NetworkClient,
    hosts: Hosts,
}

impl Network {
    /// The area, not yet at work.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let Needs {
            store,
            mesh,
            agents,
            token,
        } = needs;
        Self(Arc::new(Area {
            store,
            clusters: ClusterClient::new(mesh.clone()),
            vms: VmInstanceClient::new(mesh.clone()),
            doctor: DoctorClient::new(mesh.clone()),
            l2_networks: L2NetworkClient::new(mesh.clone()),
            hosts: Hosts::new(mesh, agents, token),
        }))
    }

    /// Adds the steps of this area, and its flows.
    pub fn steps(&self, registry: &mut Registry) {
        l2_network::steps(registry, &self.0);
    }

    /// Adds the handlers of this area's operations, with their flows.
    ///
    /// # Errors
    /// If a flow does not fit its handler.
    pub fn register(&self, operations: Builder, flows: &mut Flows) -> Result<Builder, FlowError> {
        let operations = l2_network::register(operations, &self.0, flows)?;
        let operations = l3_network::register(operations);
        Ok(ip_range::register(operations))
    }

    /// What this area serves, to the public and to other services.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let standard = || Arc::new(Standard(resources.clone()));
        vec![
            Arc::new(L2NetworkDispatch(standard())),
            Arc::new(L2NetworkAttachmentDispatch(standard())),
            Arc::new(L3NetworkDispatch(standard())),
            Arc::new(IpRangeDispatch(standard())),
            Arc::new(VmNicDispatch(standard())),
            Arc::new(NetworkInternalDispatch(Arc::new(Internal(Arc::clone(
                &self.0,
            ))))),
        ]
    }

    /// What this area adds to the work of other services.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let flat = FlatDhcp(Arc::clone(&self.0));
        let inspection = inspection::Inspection(Arc::clone(&self.0));
        vec![
            Extension {
                implementer: dhcp::IMPLEMENTER,
                dispatch: Arc::new(VmInstantiationDispatch(Arc::new(flat))),
            },
            cairn_inspect::extension("network", inspection),
        ]
    }
}

#[cfg(test)]
mod tests;
