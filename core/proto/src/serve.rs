//! Services whose rpcs are all of the standard kinds need no server code: [`Standard`] is one
//! for any of them, over whatever accepts operations, gets and queries.

use async_trait::async_trait;
use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;

use crate::{call::Method, event::OperationResponse, meta::Resource, query::v1alpha1::Query};

/// Implements tonic's trait of every service whose rpcs are operations, gets and queries.
#[derive(Debug, Clone)]
pub struct Standard<S>(pub S);

/// What stands behind the standard rpcs.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// Accepts a mutating call and returns its events.
    async fn operate<Q, M>(
        &self,
        method: &'static Method,
        request: Q,
    ) -> Result<BoxStream<'static, Result<M, Status>>, Status>
    where
        Q: Message + Default + Clone + 'static,
        M: OperationResponse;

    /// The resource with that uuid.
    async fn get<R: Resource>(&self, uuid: &str) -> Result<R, Status>;

    /// The resources that a query asks for, and how many there are if it asks that.
    async fn query<R: Resource>(&self, query: Query) -> Result<(Vec<R>, Option<u64>), Status>;
}
