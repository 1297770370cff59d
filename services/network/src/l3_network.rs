//! L3 networks: rows, and nothing behind them.

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    fault::Fault,
    network::v1alpha1::{
        CreateL3NetworkRequest, DeleteL3NetworkRequest, L3Network, UpdateL3NetworkRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

pub(crate) fn register(operations: Builder) -> Builder {
    operations
        .register(Creating::<CreateL3NetworkRequest, _>::with(New))
        .register(Updating::<UpdateL3NetworkRequest>::plain())
        .register(Deleting::<DeleteL3NetworkRequest>::plain())
}

struct New;

#[async_trait]
impl Creation<CreateL3NetworkRequest> for New {
    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreateL3NetworkRequest,
        network: &mut L3Network,
    ) -> Result<(), Fault> {
        network.set_state(ResourceState::Enabled);
        Ok(())
    }
}
