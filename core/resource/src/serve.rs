//! The standard rpcs over the operations and the database of this node.

use async_trait::async_trait;
use cairn_operation::Operations;
use cairn_proto::{
    call::Method,
    crud::Check,
    event::OperationResponse,
    fault::{Fault, status},
    meta::Resource,
    query::v1alpha1::Query,
    serve::Serve,
};
use cairn_store::Store;
use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;

/// What stands behind every standard service.
#[derive(Clone)]
pub struct Resources {
    operations: Operations,
    store: Store,
}

impl Resources {
    /// Standard rpcs that become these operations, over this database.
    #[must_use]
    pub fn new(operations: Operations, store: Store) -> Self {
        Self { operations, store }
    }
}

#[async_trait]
impl Serve for Resources {
    async fn operate<Q, M>(
        &self,
        method: &'static Method,
        request: Q,
    ) -> Result<BoxStream<'static, Result<M, Status>>, Status>
    where
        Q: Message + Default + Clone + 'static,
        M: OperationResponse,
    {
        self.operations.operate(method, &request).await
    }

    async fn get<R: Resource>(&self, uuid: &str) -> Result<R, Status> {
        let mut check = Check::default();
        check.uuid("uuid", uuid);
        check.finish()?;
        let found = self
            .store
            .get::<R>(uuid)
            .await
            .map_err(|error| status(&error))?;
        Ok(found.ok_or_else(|| Fault::not_found(R::NOUN, uuid))?)
    }

    async fn query<R: Resource>(&self, query: Query) -> Result<(Vec<R>, Option<u64>), Status> {
        let found = cairn_query::query_as::<R>(&self.store, &query).await;
        found.map_err(|error| status(&error))
    }
}
