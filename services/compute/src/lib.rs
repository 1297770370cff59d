//! Zones, clusters, hosts and virtual machines.
//!
//! [`Compute`] is this area of a node: it registers the handlers of its operations, serves its
//! rpcs, answers for hosts at the callback door, and watches over them in the background.

mod cluster;
mod host;
mod inspection;
mod instance_offering;
mod vm_instance;
mod zone;

use std::{sync::Arc, time::Duration};

use cairn_agent::{Agents, HostRegistry};
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Extension, Mesh},
    compute::v1alpha1::{
        ClusterDispatch, HostClient, HostDispatch, InstanceOfferingDispatch, VmInstanceClient,
        VmInstanceDispatch, ZoneDispatch,
    },
    serve::Standard,
};
use cairn_resource::{DeletionPolicy, Resources};
use cairn_store::{Migration, Store, StoreError};
use cairn_tls::Ca;
use tokio_util::sync::CancellationToken;

use crate::{
    host::{Hosts, Monitor},
    vm_instance::{VmInstances, Vms},
};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "compute",
        number: 1,
        name: "zone, cluster, host",
        sql: include_str!("../migrations/0001_zone_cluster_host.sql"),
    },
    Migration {
        service: "compute",
        number: 2,
        name: "instance offering, vm instance",
        sql: include_str!("../migrations/0002_vm_instance.sql"),
    },
    Migration {
        service: "compute",
        number: 3,
        name: "host memory",
        sql: include_str!("../migrations/0003_host_memory.sql"),
    },
    Migration {
        service: "compute",
        number: 4,
        name: "cascade",
        sql: include_str!("../migrations/0004_cascade.sql"),
    },
    Migration {
        service: "compute",
        number: 5,
        name: "destroying",
        sql: include_str!("../migrations/0005_destroying.sql"),
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
    /// Signs the certificates of agents.
    pub ca: Arc<Ca>,
    /// Base URLs of the callback doors, for agents.
    pub callback_addresses: Vec<String>,
    /// The fencing token: the ring epoch at which this node proved that it owns what it changes.
    pub token: u64,
    /// How hosts are watched.
    pub watch: Watch,
    /// What the deletion of a virtual machine does.
    pub deletion: DeletionPolicy,
    /// The pause between two rounds in which what was deleted long ago is expunged.
    pub expunge_interval: Duration,
}

/// How hosts are watched.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// The pause between two rounds of pings.
    pub interval: Duration,
    /// Pings that may fail in a row before a host counts as disconnected.
    pub failures: u32,
    /// Pings under way at once.
    pub at_once: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            failures: 3,
            at_once: 100,
        }
    }
}

/// The compute area of a node.
pub struct Compute {
    store: Store,
    hosts: Arc<Hosts>,
    vms: Arc<Vms>,
    monitor: Monitor,
    mesh: Mesh,
    expunge_interval: Duration,
}

impl Compute {
    /// The area, not yet at work.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let agents = needs.agents.clone();
        let vms = Vms::new(&needs.mesh, agents, needs.token, needs.deletion);
        let (store, mesh) = (needs.store.clone(), needs.mesh.clone());
        let expunge_interval = needs.expunge_interval;
        let (hosts, monitor) = host::new(needs);
        Self {
            store,
            hosts,
            vms,
            monitor,
            mesh,
            expunge_interval,
        }
    }

    /// Adds the steps of this area, and its flows.
    pub fn steps(&self, registry: &mut Registry) {
        host::steps(registry, &self.hosts);
        vm_instance::steps(registry, &self.vms);
    }

    /// Adds the handlers of this area's operations, with their flows.
    ///
    /// # Errors
    /// If a flow does not fit its handler.
    pub fn register(&self, operations: Builder, flows: &mut Flows) -> Result<Builder, FlowError> {
        let operations = zone::register(operations);
        let operations = cluster::register(operations);
        let operations = instance_offering::register(operations);
        let operations = host::register(operations, &self.hosts, flows)?;
        vm_instance::register(operations, &self.vms, flows)
    }

    /// Learns where the agents of all hosts are. Before operations are taken up again: theirs
    /// need them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        self.hosts.learn_addresses().await
    }

    /// What this area serves.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let standard = || Arc::new(Standard(resources.clone()));
        vec![
            Arc::new(ZoneDispatch(standard())),
            Arc::new(ClusterDispatch(standard())),
            Arc::new(HostDispatch(standard())),
            Arc::new(InstanceOfferingDispatch(standard())),
            Arc::new(VmInstanceDispatch(Arc::new(Standard(VmInstances {
                resources: resources.clone(),
                vms: Arc::clone(&self.vms),
            })))),
        ]
    }

    /// What this area adds to the work of other services.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let inspection = inspection::Inspection {
            store: self.store.clone(),
            hosts: HostClient::new(self.mesh.clone()),
            agents: self.vms.hosts.clone(),
        };
        vec![cairn_inspect::extension("compute", inspection)]
    }

    /// Answers for hosts at the callback door.
    #[must_use]
    pub fn registry(&self) -> Arc<dyn HostRegistry> {
        Arc::clone(&self.hosts) as Arc<dyn HostRegistry>
    }

    /// Watches over the hosts, and expunges what was deleted long ago, until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        let vms = VmInstanceClient::new(self.mesh.clone());
        let (store, policy) = (&self.store, self.vms.policy);
        let expunge = policy.in_rounds(self.expunge_interval, |due| {
            vm_instance::expunge_due(store, &vms, due)
        });
        tokio::join!(
            self.monitor.run(stop.clone()),
            stop.run_until_cancelled(expunge)
        );
    }
}

#[cfg(test)]
mod tests {
    use cairn_testkit::{Database, TestStore, on_both_databases};

    use super::MIGRATIONS;

    on_both_databases!(the_tables_are_what_the_resources_say,);

    async fn the_tables_are_what_the_resources_say(database: Database) {
        let store = TestStore::new(database, MIGRATIONS).await;
        assert_eq!(store.schema_problems().await.unwrap(), Vec::<String>::new());
    }
}
