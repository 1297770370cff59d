//! Zones: rows, and nothing behind them.

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::{
        CreateZoneRequest, DeleteZoneRequest, ResourceState, UpdateZoneRequest, Zone,
    },
    fault::Fault,
};
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

pub(crate) fn register(operations: Builder) -> Builder {
    operations
        .register(Creating::<CreateZoneRequest, _>::with(New))
        .register(Updating::<UpdateZoneRequest>::plain())
        .register(Deleting::<DeleteZoneRequest>::plain())
}

struct New;

#[async_trait]
impl Creation<CreateZoneRequest> for New {
    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreateZoneRequest,
        zone: &mut Zone,
    ) -> Result<(), Fault> {
        zone.set_state(ResourceState::Enabled);
        Ok(())
    }
}
