//! Primary storages, backup storages, images and volumes: where the disks of virtual machines
//! are, and what they start as.
//!
//! [`Storage`] is this area of a node: it registers the handlers of its operations, serves its
//! public rpcs and those that other services ask of it, and watches over backup storages.
//!
//! What is left of a place is a number in one row, taken and given back by conditional updates;
//! no queue guards it. What another service owns, a host or a cluster, is asked for through the
//! mesh.

mod backup_storage;
mod image;
mod inspection;
mod internal;
mod path;
mod primary_storage;
mod turns;
mod volume;

use std::{path::PathBuf, sync::Arc, time::Duration};

use cairn_agent::{Agents, Hosts};
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Extension, Mesh},
    compute::v1alpha1::{ClusterClient, VmInstanceClient},
    doctor::v1alpha1::DoctorClient,
    serve::Standard,
    storage::{
        internal::v1alpha1::StorageInternalDispatch,
        v1alpha1::{
            BackupStorageDispatch, ImageCacheDispatch, ImageClient, ImageDispatch,
            PrimaryStorageAttachmentDispatch, PrimaryStorageCapacityDispatch,
            PrimaryStorageDispatch, VolumeDispatch,
        },
    },
};
use cairn_resource::{DeletionPolicy, Resources};
use cairn_sftp::SshKey;
use cairn_store::{Migration, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    image::{ImageApi, Uploads},
    internal::Internal,
    turns::Turns,
};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "storage",
        number: 1,
        name: "primary storage, image, volume",
        sql: include_str!("../migrations/0001_storage.sql"),
    },
    Migration {
        service: "storage",
        number: 2,
        name: "backup storage",
        sql: include_str!("../migrations/0002_backup_storage.sql"),
    },
    Migration {
        service: "storage",
        number: 3,
        name: "used before",
        sql: include_str!("../migrations/0003_used_before.sql"),
    },
    Migration {
        service: "storage",
        number: 4,
        name: "copies that go with a volume",
        sql: include_str!("../migrations/0004_volume_copy.sql"),
    },
    Migration {
        service: "storage",
        number: 5,
        name: "folders of deleted storages",
        sql: include_str!("../migrations/0005_deleted_pool.sql"),
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
    /// The key that the cloud authenticates with at backup storages.
    pub ssh_key: SshKey,
    /// The node's own files, which no image is made of.
    pub private: PathBuf,
    /// The pause between two looks at the backup storages.
    pub watch: Duration,
    /// What the deletion of an image does.
    pub deletion: DeletionPolicy,
    /// The pause between two rounds in which what was deleted long ago is expunged.
    pub expunge_interval: Duration,
}

/// The storage area of a node.
#[derive(Clone)]
pub struct Storage(Arc<Area>);

/// What the parts of the area share.
pub(crate) struct Area {
    store: Store,
    clusters: ClusterClient,
    vms: VmInstanceClient,
    hosts: Hosts,
    ssh_key: SshKey,
    private: PathBuf,
    watch: Duration,
    policy: DeletionPolicy,
    expunge_interval: Duration,
    images: ImageClient,
    doctor: DoctorClient,
    uploads: Uploads,
    /// The turns of the copies of images on hosts.
    copies: Turns<()>,
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
            ssh_key,
            private,
            watch,
            deletion,
            expunge_interval,
        } = needs;
        Self(Arc::new(Area {
            store,
            clusters: ClusterClient::new(mesh.clone()),
            vms: VmInstanceClient::new(mesh.clone()),
            images: ImageClient::new(mesh.clone()),
            doctor: DoctorClient::new(mesh.clone()),
            policy: deletion,
            expunge_interval,
            hosts: Hosts::new(mesh, agents, token),
            ssh_key,
            private,
            watch,
            uploads: Uploads::default(),
            copies: Turns::default(),
        }))
    }

    /// Adds the steps of this area, and its flows.
    pub fn steps(&self, registry: &mut Registry) {
        image::steps(registry, &self.0);
        primary_storage::steps(registry, &self.0);
    }

    /// Adds the handlers of this area's operations, with their flows.
    ///
    /// # Errors
    /// If a flow does not fit its handler.
    pub fn register(&self, operations: Builder, flows: &mut Flows) -> Result<Builder, FlowError> {
        let operations = primary_storage::register(operations, &self.0, flows)?;
        let operations = backup_storage::register(operations, &self.0);
        let operations = image::register(operations, &self.0, flows)?;
        Ok(volume::register(operations))
    }

    /// What this area serves, to the public and to other services.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let standard = || Arc::new(Standard(resources.clone()));
        vec![
            Arc::new(PrimaryStorageDispatch(standard())),
            Arc::new(PrimaryStorageAttachmentDispatch(standard())),
            Arc::new(PrimaryStorageCapacityDispatch(standard())),
            Arc::new(BackupStorageDispatch(standard())),
            Arc::new(ImageDispatch(Arc::new(Standard(ImageApi::new(
                resources.clone(),
                Arc::clone(&self.0),
            ))))),
            Arc::new(ImageCacheDispatch(standard())),
            Arc::new(VolumeDispatch(standard())),
            Arc::new(StorageInternalDispatch(Arc::new(Internal(Arc::clone(
                &self.0,
            ))))),
        ]
    }

    /// What this area adds to the work of other services.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let inspection = inspection::Inspection(Arc::clone(&self.0));
        vec![cairn_inspect::extension("storage", inspection)]
    }

    /// Watches over the backup storages, and expunges what was deleted long ago, until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        let area = &self.0;
        let expunge = area
            .policy
            .in_rounds(area.expunge_interval, |due| area.expunge_due(due));
        let work = async { tokio::join!(area.watch(), expunge) };
        stop.run_until_cancelled(work).await;
    }
}

#[cfg(test)]
mod tests;
