//! What the service of virtual machines has beside the standard rpcs: the console log.

use std::sync::Arc;

use cairn_proto::{
    compute::v1alpha1::{
        GetVmInstanceConsoleLogRequest, GetVmInstanceConsoleLogResponse, VmInstance,
        VmInstanceOwnRpcs,
    },
    serve::{OverStandard, Serve as _},
};
use cairn_resource::Resources;
use tonic::{Status, async_trait};

use super::{Vms, console};

/// The service of virtual machines.
pub(crate) struct VmInstances {
    pub(crate) resources: Resources,
    pub(crate) vms: Arc<Vms>,
}

impl OverStandard for VmInstances {
    type Serve = Resources;

    fn standard(&self) -> &Resources {
        &self.resources
    }
}

#[async_trait]
impl VmInstanceOwnRpcs for VmInstances {
    async fn get_vm_instance_console_log(
        &self,
        request: GetVmInstanceConsoleLogRequest,
    ) -> Result<GetVmInstanceConsoleLogResponse, Status> {
        console::check(&request)?;
        let vm: VmInstance = self.resources.get(&request.uuid).await?;
        Ok(self.vms.console_log(&vm, &request).await?)
    }
}
