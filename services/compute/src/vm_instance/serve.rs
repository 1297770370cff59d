//! The rpcs of virtual machines: the standard ones, and the console log.

use std::sync::Arc;

use cairn_proto::{
    call::Rpc,
    compute::v1alpha1::{
        CreateVmInstanceRequest, CreateVmInstanceResponse, DeleteVmInstanceRequest,
        DeleteVmInstanceResponse, GetVmInstanceConsoleLogRequest, GetVmInstanceConsoleLogResponse,
        GetVmInstanceRequest, GetVmInstanceResponse, QueryVmInstanceRequest,
        QueryVmInstanceResponse, RebootVmInstanceRequest, RebootVmInstanceResponse,
        StartVmInstanceRequest, StartVmInstanceResponse, StopVmInstanceRequest,
        StopVmInstanceResponse, UpdateVmInstanceRequest, UpdateVmInstanceResponse, VmInstance,
        vm_instance_service_server::VmInstanceService,
    },
    event::OperationResponse,
    serve::Serve as _,
};
use cairn_resource::Resources;
use futures::stream::BoxStream;
use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use super::{Vms, console};

/// The service of virtual machines.
pub(crate) struct VmInstances {
    pub(crate) resources: Resources,
    pub(crate) vms: Arc<Vms>,
}

type Events<M> = BoxStream<'static, Result<M, Status>>;

impl VmInstances {
    async fn operate<Q, M>(&self, request: Request<Q>) -> Result<Response<Events<M>>, Status>
    where
        Q: Rpc + Message + Default + Clone + 'static,
        M: OperationResponse,
    {
        let events = self
            .resources
            .operate(Q::METHOD, request.into_inner())
            .await?;
        Ok(Response::new(events))
    }
}

#[async_trait]
impl VmInstanceService for VmInstances {
    async fn get_vm_instance(
        &self,
        request: Request<GetVmInstanceRequest>,
    ) -> Result<Response<GetVmInstanceResponse>, Status> {
        let found = self.resources.get(&request.into_inner().uuid).await?;
        Ok(Response::new(GetVmInstanceResponse {
            vm_instance: Some(found),
        }))
    }

    async fn query_vm_instance(
        &self,
        request: Request<QueryVmInstanceRequest>,
    ) -> Result<Response<QueryVmInstanceResponse>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let (vm_instances, total) = self.resources.query(query).await?;
        Ok(Response::new(QueryVmInstanceResponse {
            vm_instances,
            total,
        }))
    }

    async fn get_vm_instance_console_log(
        &self,
        request: Request<GetVmInstanceConsoleLogRequest>,
    ) -> Result<Response<GetVmInstanceConsoleLogResponse>, Status> {
        let request = request.into_inner();
        console::check(&request)?;
        let vm: VmInstance = self.resources.get(&request.uuid).await?;
        let part = self.vms.console_log(&vm, &request).await?;
        Ok(Response::new(part))
    }

    type CreateVmInstanceStream = Events<CreateVmInstanceResponse>;

    async fn create_vm_instance(
        &self,
        request: Request<CreateVmInstanceRequest>,
    ) -> Result<Response<Self::CreateVmInstanceStream>, Status> {
        self.operate(request).await
    }

    type UpdateVmInstanceStream = Events<UpdateVmInstanceResponse>;

    async fn update_vm_instance(
        &self,
        request: Request<UpdateVmInstanceRequest>,
    ) -> Result<Response<Self::UpdateVmInstanceStream>, Status> {
        self.operate(request).await
    }

    type DeleteVmInstanceStream = Events<DeleteVmInstanceResponse>;

    async fn delete_vm_instance(
        &self,
        request: Request<DeleteVmInstanceRequest>,
    ) -> Result<Response<Self::DeleteVmInstanceStream>, Status> {
        self.operate(request).await
    }

    type StartVmInstanceStream = Events<StartVmInstanceResponse>;

    async fn start_vm_instance(
        &self,
        request: Request<StartVmInstanceRequest>,
    ) -> Result<Response<Self::StartVmInstanceStream>, Status> {
        self.operate(request).await
    }

    type StopVmInstanceStream = Events<StopVmInstanceResponse>;

    async fn stop_vm_instance(
        &self,
        request: Request<StopVmInstanceRequest>,
    ) -> Result<Response<Self::StopVmInstanceStream>, Status> {
        self.operate(request).await
    }

    type RebootVmInstanceStream = Events<RebootVmInstanceResponse>;

    async fn reboot_vm_instance(
        &self,
        request: Request<RebootVmInstanceRequest>,
    ) -> Result<Response<Self::RebootVmInstanceStream>, Status> {
        self.operate(request).await
    }
}
