//! Instance offerings: the sizes that virtual machines come in.

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::{
        CreateInstanceOfferingRequest, DeleteInstanceOfferingRequest, InstanceOffering,
        ResourceState, UpdateInstanceOfferingRequest,
    },
    crud::Check,
    fault::Fault,
};
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

pub(crate) fn register(operations: Builder) -> Builder {
    operations
        .register(Creating::<CreateInstanceOfferingRequest, _>::with(New))
        .register(Updating::<UpdateInstanceOfferingRequest>::plain())
        .register(Deleting::<DeleteInstanceOfferingRequest>::plain())
}

struct New;

#[async_trait]
impl Creation<CreateInstanceOfferingRequest> for New {
    fn check(&self, request: &CreateInstanceOfferingRequest, check: &mut Check) {
        check.within("cpu_count", request.cpu_count.into(), 1, 1_024);
        check.within("memory_bytes", request.memory_bytes, 16 * MIB, 16 * TIB);
    }

    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreateInstanceOfferingRequest,
        offering: &mut InstanceOffering,
    ) -> Result<(), Fault> {
        offering.set_state(ResourceState::Enabled);
        Ok(())
    }
}
