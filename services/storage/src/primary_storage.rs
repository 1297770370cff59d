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
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

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
        .register(Deleting::<DeletePrimaryStorageRequest>::plain())
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
        _: &mut Tx,
        _: &CreatePrimaryStorageRequest,
        storage: &mut PrimaryStorage,
    ) -> Result<(), Fault> {
        storage.set_state(ResourceState::Enabled);
        Ok(())
    }
}
