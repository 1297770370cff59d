//! Services whose rpcs are of the standard kinds need no server code: [`Standard`] is one for any of
//! them, over whatever accepts operations, gets and queries. One that has an rpc besides writes that
//! and nothing else.

use async_trait::async_trait;
use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;

use crate::{call::Method, event::OperationResponse, meta::Resource, query::v1alpha1::Query};

/// Implements tonic's trait of every service whose rpcs are operations, gets and queries, or are its
/// own beside these ([`OverStandard`]).
#[derive(Debug, Clone)]
pub struct Standard<S>(pub S);

/// What serves rpcs of its own beside the standard ones: the build writes a trait for those, such as
/// [`VmInstanceOwnRpcs`](crate::compute::v1alpha1::VmInstanceOwnRpcs).
pub trait OverStandard: Send + Sync + 'static {
    /// What stands behind the standard rpcs.
    type Serve: Serve;

    /// It.
    fn standard(&self) -> &Self::Serve;
}

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
