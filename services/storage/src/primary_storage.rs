//! Primary storages: a directory on each host of the clusters that they are attached to.

mod attach;
pub(crate) mod capacity;
mod detach;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    crud::Check,
    fault::Fault,
    storage::v1alpha1::{
        CreatePrimaryStorageRequest, DeletePrimaryStorageRequest, PrimaryStorage,
        UpdatePrimaryStorageRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Removal, Updating};
use cairn_store::{Tx, Value};

use crate::{Area, path::path_problem};

/// The steps, and the flow of them.
pub(crate) fn steps(registry: &mut Registry, area: &Arc<Area>) {
    registry
        .step(detach::CheckUnused(Arc::clone(area)))
        .step(detach::Forget)
        .flow(
            "detach-primary-storage-from-cluster.toml",
            include_str!("../flows/detach-primary-storage-from-cluster.toml"),
        );
}

pub(crate) fn register(
    operations: Builder,
    area: &Arc<Area>,
    flows: &mut Flows,
) -> Result<Builder, FlowError> {
    Ok(operations
        .register(Creating::<CreatePrimaryStorageRequest, _>::with(New))
        .register(Updating::<UpdatePrimaryStorageRequest>::plain())
        .register(Deleting::<DeletePrimaryStorageRequest, _>::with(Gone))
        .register(attach::Attach(Arc::clone(area)))
        .register(detach::Detach::new(flows)?))
}

struct New;

#[async_trait]
impl Creation<CreatePrimaryStorageRequest> for New {
    fn check(&self, request: &CreatePrimaryStorageRequest, check: &mut Check) {
        if let Some(problem) = path_problem(&request.path, "/var/lib/cairn/pool") {
            check.refuse("path", problem);
        }
    }

    async fn complete(
        &self,
        tx: &mut Tx,
        _: &CreatePrimaryStorageRequest,
        storage: &mut PrimaryStorage,
    ) -> Result<(), Fault> {
        storage.set_state(ResourceState::Enabled);
        let sql = "DELETE FROM deleted_pool WHERE zone_uuid = ? AND path = ?";
        tx.execute(sql, folder(storage)).await?;
        Ok(())
    }
}

/// Hosts that are away may keep files that somebody has to find when they are back.
struct Gone;

#[async_trait]
impl Removal<DeletePrimaryStorageRequest> for Gone {
    async fn complete(&self, tx: &mut Tx, storage: &PrimaryStorage) -> Result<(), Fault> {
        let sql = "INSERT INTO deleted_pool (zone_uuid, path) VALUES (?, ?) ON CONFLICT DO NOTHING";
        tx.execute(sql, folder(storage)).await?;
        Ok(())
    }
}

fn folder(storage: &PrimaryStorage) -> Vec<Value> {
    vec![(&storage.zone_uuid).into(), (&storage.path).into()]
}
