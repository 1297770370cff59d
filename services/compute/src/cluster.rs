//! Clusters: hosts of one kind in one zone.

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::{
        Cluster, CreateClusterRequest, DeleteClusterRequest, ResourceState, UpdateClusterRequest,
    },
    fault::Fault,
};
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

pub(crate) fn register(operations: Builder) -> Builder {
    operations
        .register(Creating::<CreateClusterRequest, _>::with(New))
        .register(Updating::<UpdateClusterRequest>::plain())
        .register(Deleting::<DeleteClusterRequest>::plain())
}

struct New;

#[async_trait]
impl Creation<CreateClusterRequest> for New {
    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreateClusterRequest,
        cluster: &mut Cluster,
    ) -> Result<(), Fault> {
        cluster.set_state(ResourceState::Enabled);
        Ok(())
    }
}
