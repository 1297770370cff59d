//! The areas of services: made from the same parts, registered and served together.

use std::{sync::Arc, time::Duration};

use cairn_agent::Agents;
use cairn_cascade_service::Cascades;
use cairn_compute_service::{Compute, Watch};
use cairn_doctor_service::Doctor;
use cairn_flow::{FlowError, Flows, Gc, Registry, WrongFlows};
use cairn_mesh::{Extension, LocalMesh};
use cairn_network_service::Network;
use cairn_operation::{Builder, Operations};
use cairn_operation_service::{GcJobApi, OperationApi, QueueApi};
use cairn_proto::{
    call::Dispatch,
    meta::Catalog,
    operation::v1alpha1::{GcJobDispatch, OperationDispatch, QueueDispatch},
    query::v1alpha1::QueryDispatch,
    serve::Standard,
};
use cairn_query_service::QueryApi;
use cairn_resource::Resources;
use cairn_sftp::SshKey;
use cairn_storage_service::Storage;
use cairn_store::{Migration, Store};
use cairn_tls::Ca;

use crate::{Config, ServiceName};

/// The pause between two looks at the backup storages.
const BACKUP_STORAGES: Duration = Duration::from_secs(30);

/// The migrations of every service, in the order in which they are applied. All of them, also
/// those of services that this node does not run: the database is one.
pub(super) fn migrations() -> Vec<Migration> {
    let all = [
        cairn_operation::MIGRATIONS,
        cairn_flow::MIGRATIONS,
        cairn_identity_service::MIGRATIONS,
        cairn_compute_service::MIGRATIONS,
        cairn_network_service::MIGRATIONS,
        cairn_storage_service::MIGRATIONS,
        cairn_cascade_service::MIGRATIONS,
    ];
    all.into_iter().flatten().cloned().collect()
}

/// What the areas are made from.
pub(super) struct Parts<'a> {
    pub(super) store: &'a Store,
    pub(super) mesh: &'a LocalMesh,
    pub(super) agents: &'a Agents,
    pub(super) ca: &'a Arc<Ca>,
    pub(super) ssh_key: &'a SshKey,
    pub(super) callback_addresses: &'a [String],
}

pub(super) struct Areas {
    pub(super) compute: Compute,
    network: Network,
    pub(super) storage: Storage,
    cascades: Cascades,
    doctor: Doctor,
}

impl Areas {
    pub(super) fn new(config: &Config, parts: &Parts<'_>) -> Self {
        let (store, agents) = (|| parts.store.clone(), || parts.agents.clone());
        let (mesh, token) = (|| parts.mesh.handle(), parts.mesh.epoch());
        Self {
            compute: Compute::new(cairn_compute_service::Needs {
                store: store(),
                mesh: mesh(),
                agents: agents(),
                ca: Arc::clone(parts.ca),
                callback_addresses: parts.callback_addresses.to_vec(),
                token,
                watch: Watch {
                    interval: Duration::from_millis(*config.hosts.ping_interval_ms.get_ref()),
                    failures: *config.hosts.ping_failures.get_ref(),
                    ..Watch::default()
                },
                deletion: config.deletion.of_vm_instances(),
                expunge_interval: config.deletion.expunge_interval(),
            }),
            network: Network::new(cairn_network_service::Needs {
                store: store(),
                mesh: mesh(),
                agents: agents(),
                token,
            }),
            storage: Storage::new(cairn_storage_service::Needs {
                store: store(),
                mesh: mesh(),
                agents: agents(),
                token,
                ssh_key: parts.ssh_key.clone(),
                private: config.data_directory.get_ref().clone(),
                watch: BACKUP_STORAGES,
                deletion: config.deletion.of_images(),
                expunge_interval: config.deletion.expunge_interval(),
            }),
            cascades: Cascades::new(store(), mesh()),
            doctor: Doctor::new(cairn_doctor_service::Needs {
                store: store(),
                mesh: mesh(),
                agents: agents(),
                token,
            }),
        }
    }

    /// Every flow, the operator's over those of the services.
    pub(super) fn flows(
        &self,
        config: &Config,
        catalog: &Arc<Catalog>,
    ) -> Result<Flows, WrongFlows> {
        let mut registry = Registry::default();
        registry.catalog(catalog);
        self.compute.steps(&mut registry);
        self.network.steps(&mut registry);
        self.storage.steps(&mut registry);
        self.doctor.steps(&mut registry);
        registry.resolve(config.flows.directory.as_deref())
    }

    /// Adds every handler, also those of services that this node does not run: an operation that
    /// it accepted before its configuration changed must end.
    pub(super) fn register(
        &self,
        operations: Builder,
        flows: &mut Flows,
    ) -> Result<Builder, FlowError> {
        let operations = self.compute.register(operations, flows)?;
        let operations = self.network.register(operations, flows)?;
        let operations = self.storage.register(operations, flows)?;
        let operations = self.doctor.register(operations, flows)?;
        let operations = cairn_operation_service::register(operations);
        Ok(self.cascades.register(operations))
    }

    /// What this node serves.
    pub(super) fn services(
        &self,
        config: &Config,
        resources: &Resources,
        operations: &Operations,
        gc: &Gc,
        store: &Store,
    ) -> Vec<Arc<dyn Dispatch>> {
        let mut services = Vec::new();
        if config.runs(ServiceName::Compute) {
            services.extend(self.compute.services(resources));
        }
        if config.runs(ServiceName::Network) {
            services.extend(self.network.services(resources));
        }
        if config.runs(ServiceName::Storage) {
            services.extend(self.storage.services(resources));
        }
        if config.runs(ServiceName::Cascade) {
            services.extend(self.cascades.services(resources));
        }
        if config.runs(ServiceName::Doctor) {
            services.extend(self.doctor.services(resources));
        }
        if config.runs(ServiceName::Operation) {
            let api = OperationApi::new(store.clone(), operations.clone());
            services.push(Arc::new(OperationDispatch(Arc::new(api))) as Arc<dyn Dispatch>);
            let api = QueueApi::new(operations.clone());
            services.push(Arc::new(QueueDispatch(Arc::new(api))));
            let api = GcJobApi::new(gc.clone(), resources.clone());
            services.push(Arc::new(GcJobDispatch(Arc::new(Standard(api)))));
        }
        if config.runs(ServiceName::Query) {
            let api = QueryApi::new(store.clone());
            services.push(Arc::new(QueryDispatch(Arc::new(api))));
        }
        services
    }

    /// What this node adds to the work of services, wherever those run.
    pub(super) fn extensions(&self, config: &Config) -> Vec<Extension> {
        let mut extensions = Vec::new();
        if config.runs(ServiceName::Compute) {
            extensions.extend(self.compute.extensions());
        }
        if config.runs(ServiceName::Network) {
            extensions.extend(self.network.extensions());
        }
        if config.runs(ServiceName::Storage) {
            extensions.extend(self.storage.extensions());
        }
        if config.runs(ServiceName::Doctor) {
            extensions.extend(self.doctor.extensions());
        }
        extensions
    }
}
