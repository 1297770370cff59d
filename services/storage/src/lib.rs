//! Primary storages, images and volumes: where the disks of virtual machines are.
//!
//! [`Storage`] is this area of a node: it registers the handlers of its operations, and serves
//! its public rpcs and those that other services ask of it.
//!
//! What is left of a place is a number in one row, taken and given back by conditional updates;
//! no queue guards it. What another service owns, a host or a cluster, is asked for through the
//! mesh.

mod image;
mod internal;
mod primary_storage;
mod volume;

use std::sync::Arc;

use cairn_agent::{Agents, Hosts};
use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Mesh},
    compute::v1alpha1::ClusterClient,
    serve::Standard,
    storage::{
        internal::v1alpha1::StorageInternalDispatch,
        v1alpha1::{
            ImageCacheDispatch, ImageDispatch, PrimaryStorageAttachmentDispatch,
            PrimaryStorageCapacityDispatch, PrimaryStorageDispatch, VolumeDispatch,
        },
    },
};
use cairn_resource::Resources;
use cairn_store::{Migration, Store};

use crate::internal::Internal;

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "storage",
    number: 1,
    name: "primary storage, image, volume",
    sql: include_str!("../migrations/0001_storage.sql"),
}];

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

/// The storage area of a node.
pub struct Storage(Arc<Area>);

/// What the parts of the area share.
pub(crate) struct Area {
    store: Store,
    clusters: ClusterClient,
    hosts: Hosts,
}

impl Storage {
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
            hosts: Hosts::new(mesh, agents, token),
        }))
    }

    /// Adds the handlers of this area's operations.
    #[must_use]
    pub fn register(&self, operations: Builder) -> Builder {
        let operations = primary_storage::register(operations, &self.0);
        let operations = image::register(operations, &self.0);
        volume::register(operations)
    }

    /// What this area serves, to the public and to other services.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let standard = || Arc::new(Standard(resources.clone()));
        vec![
            Arc::new(PrimaryStorageDispatch(standard())),
            Arc::new(PrimaryStorageAttachmentDispatch(standard())),
            Arc::new(PrimaryStorageCapacityDispatch(standard())),
            Arc::new(ImageDispatch(standard())),
            Arc::new(ImageCacheDispatch(standard())),
            Arc::new(VolumeDispatch(standard())),
            Arc::new(StorageInternalDispatch(Arc::new(Internal(Arc::clone(
                &self.0,
            ))))),
        ]
    }
}

#[cfg(test)]
mod tests;
