//! Creating: the request's fields become the row.

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    call::Rpc,
    crud::{Check, Create},
    event::OperationResponse,
    fault::Fault,
    meta::Resource,
};
use cairn_store::Tx;

use crate::{Plain, check_references, now};

/// What a resource adds to its creation.
#[async_trait]
pub trait Creation<Q: Create>: Send + Sync + 'static {
    /// Checks more of the request, without looking anything up.
    fn check(&self, _request: &Q, _check: &mut Check) {}

    /// Completes the row before it is inserted: what does not come from the request, and what
    /// must be true of other rows.
    ///
    /// # Errors
    /// The fault that the creation ends with; nothing is written then.
    async fn complete(
        &self,
        _tx: &mut Tx,
        _request: &Q,
        _resource: &mut Q::Resource,
    ) -> Result<(), Fault> {
        Ok(())
    }
}

impl<Q: Create> Creation<Q> for Plain {}

/// Handles the rpc whose request is `Q`.
pub struct Creating<Q, C = Plain> {
    creation: Arc<C>,
    request: PhantomData<fn() -> Q>,
}

impl<Q> Creating<Q> {
    /// For a resource that adds nothing.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(Plain)
    }
}

impl<Q, C> Creating<Q, C> {
    /// For a resource that adds `creation`.
    pub fn with(creation: C) -> Self {
        Self {
            creation: Arc::new(creation),
            request: PhantomData,
        }
    }
}

#[async_trait]
impl<Q, C> KeyedHandler for Creating<Q, C>
where
    Q: Create + Rpc,
    Q::Response: OperationResponse<Result = Q::Resource>,
    C: Creation<Q>,
{
    type Request = Q;
    type Resource = Q::Resource;

    fn check_further(&self, request: &Q, check: &mut Check) {
        self.creation.check(request, check);
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Q>,
    ) -> Result<Ended<Q::Resource>, Fault> {
        let (creation, account) = (Arc::clone(&self.creation), cx.account());
        cx.finish(move |tx| {
            let (creation, request) = (Arc::clone(&creation), Arc::clone(&request));
            Box::pin(async move {
                check_references(tx, &request.references()).await?;
                let mut resource = request.resource();
                *resource.account_mut() = account.to_string();
                resource.stamp(now());
                creation.complete(tx, &request, &mut resource).await?;
                tx.insert(&resource).await?;
                Ok(resource)
            })
        })
        .await
    }
}
