//! The handlers of most rpcs: their request names a resource, and is itself what they work from.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_proto::{
    call::{Method, Rpc},
    crud::{Check, Keyed},
    event::OperationResponse,
    fault::Fault,
    meta::Resource,
};

use crate::{Ended, Handler, OperationContext, Queue, ResultOf, handler::TIME_LIMIT};

/// One mutating rpc on a resource that its request names. It is checked as its proto says, runs in
/// the queue of that resource, one at a time, and is a [`Handler`] with no further word.
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use cairn_operation::{Ended, KeyedHandler, OperationContext};
/// use cairn_proto::{
///     compute::v1alpha1::{DeleteZoneRequest, Zone},
///     fault::Fault,
///     meta::Resource as _,
/// };
///
/// struct Forget;
///
/// #[async_trait]
/// impl KeyedHandler for Forget {
///     type Request = DeleteZoneRequest;
///     type Resource = Zone;
///
///     async fn run(
///         &self,
///         cx: &OperationContext,
///         request: Arc<DeleteZoneRequest>,
///     ) -> Result<Ended<Zone>, Fault> {
///         let forgotten = cx.finish(move |tx| {
///             let uuid = request.uuid.clone();
///             Box::pin(async move {
///                 let zone = tx.get::<Zone>(&uuid).await?;
///                 tx.delete::<Zone>(&uuid).await?;
///                 zone.ok_or_else(|| Fault::not_found(Zone::NOUN, &uuid))
///             })
///         });
///         forgotten.await
///     }
/// }
/// ```
#[async_trait]
pub trait KeyedHandler: Sized + Send + Sync + 'static {
    /// The rpc's request; it knows its rpc and the response.
    type Request: Keyed + Rpc<Response: OperationResponse>;
    /// What it names, in whose queue the operation runs.
    type Resource: Resource;

    /// Checks what the proto does not say, without IO. All that is wrong is reported at once.
    fn check_further(&self, _request: &Self::Request, _check: &mut Check) {}

    /// See [`Handler::time_limit`].
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    /// Does the work, when the queue lets it.
    ///
    /// # Errors
    /// The fault that the operation ends with.
    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<ResultOf<Self>>, Fault>;
}

#[async_trait]
impl<H: KeyedHandler> Handler for H {
    type Request = H::Request;
    type Response = <H::Request as Rpc>::Response;
    type Spec = H::Request;
    const METHOD: &'static Method = H::Request::METHOD;

    fn check(&self, request: &H::Request) -> Result<H::Request, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        self.check_further(request, &mut check);
        check.finish()?;
        Ok(request.clone())
    }

    fn queue(&self, request: &H::Request) -> Queue {
        Queue::serial(H::Resource::NOUN, request.key())
    }

    fn time_limit(&self) -> Duration {
        KeyedHandler::time_limit(self)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<H::Request>,
    ) -> Result<Ended<ResultOf<Self>>, Fault> {
        KeyedHandler::run(self, cx, request).await
    }
}
