//! Operations as a service: show, query, watch, cancel; and the queues that they are in.
//!
//! The operations themselves are kept by `cairn_operation`, their steps and what they leave by
//! `cairn_flow`; here they are put on the wire.

mod children;
mod gc_job;
mod queues;

use cairn_operation::Operations;
use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{
        CancelOperationRequest, CancelOperationResponse, GetOperationRequest, GetOperationResponse,
        Operation, QueryOperationRequest, QueryOperationResponse, WatchOperationRequest,
        WatchOperationResponse, operation_service_server::OperationService,
    },
};
use cairn_query::query_as;
use cairn_store::Store;
use cairn_types::{InvalidUuid, OperationUuid};
use futures::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status, async_trait};

use children::children;
pub use gc_job::{GcJobApi, register};
pub use queues::QueueApi;

/// The operation service of one node.
#[derive(Debug, Clone)]
pub struct OperationApi {
    store: Store,
    operations: Operations,
}

impl OperationApi {
    /// The service over the operations in `store`, those of this node among them.
    #[must_use]
    pub fn new(store: Store, operations: Operations) -> Self {
        Self { store, operations }
    }

    async fn get(&self, uuid: &str) -> Result<GetOperationResponse, Fault> {
        let uuid = parse("uuid", uuid)?;
        let text = uuid.to_string();
        let operation = self.store.get::<Operation>(&text).await?;
        let operation = operation.ok_or_else(|| Fault::not_found("operation", &text))?;
        let (children, more_children) = children(&self.store, &text).await?;
        Ok(GetOperationResponse {
            steps: cairn_flow::steps(&self.store, uuid).await?,
            operation: Some(operation),
            children,
            more_children,
        })
    }

    async fn query(&self, request: QueryOperationRequest) -> Result<QueryOperationResponse, Fault> {
        let query = request.query.unwrap_or_default();
        let (operations, total) = query_as(&self.store, &query).await?;
        Ok(QueryOperationResponse { operations, total })
    }
}

#[async_trait]
impl OperationService for OperationApi {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        let found = self.get(&request.into_inner().uuid).await?;
        Ok(Response::new(found))
    }

    async fn query_operation(
        &self,
        request: Request<QueryOperationRequest>,
    ) -> Result<Response<QueryOperationResponse>, Status> {
        let found = self.query(request.into_inner()).await?;
        Ok(Response::new(found))
    }

    type WatchOperationStream = BoxStream<'static, Result<WatchOperationResponse, Status>>;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let WatchOperationRequest { uuid, after } = request.into_inner();
        let events = self.operations.watch(parse("uuid", &uuid)?, after).await?;
        let events = events.map(|event| {
            let event = Some(event?);
            Ok(WatchOperationResponse { event })
        });
        Ok(Response::new(events.boxed()))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        let uuid = parse("uuid", &request.into_inner().uuid)?;
        let operation = Some(self.operations.cancel(uuid).await?);
        Ok(Response::new(CancelOperationResponse { operation }))
    }
}

fn parse(field: &str, uuid: &str) -> Result<OperationUuid, Fault> {
    uuid.parse()
        .map_err(|invalid: InvalidUuid| Fault::field(field, invalid.to_string()))
}

#[cfg(test)]
mod tests;
