//! Updating: what the request gives replaces what the row has.

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    call::Rpc,
    crud::{Check, Update},
    event::OperationResponse,
    fault::Fault,
    meta::Resource,
};
use cairn_store::Tx;

use crate::{Plain, check_references, now};

/// What a resource adds to its update.
#[async_trait]
pub trait Change<Q: Update>: Send + Sync + 'static {
    /// Checks more of the request, without looking anything up.
    fn check(&self, _request: &Q, _check: &mut Check) {}

    /// Looks at the row as it is going to be, and may refuse it or change more.
    ///
    /// # Errors
    /// The fault that the update ends with; nothing is written then.
    async fn complete(
        &self,
        _tx: &mut Tx,
        _before: &Q::Resource,
        _after: &mut Q::Resource,
    ) -> Result<(), Fault> {
        Ok(())
    }
}

impl<Q: Update> Change<Q> for Plain {}

/// Handles the rpc whose request is `Q`.
pub struct Updating<Q, C = Plain> {
    change: Arc<C>,
    request: PhantomData<fn() -> Q>,
}

impl<Q> Updating<Q> {
    /// For a resource that adds nothing.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(Plain)
    }
}

impl<Q, C> Updating<Q, C> {
    /// For a resource that adds `change`.
    pub fn with(change: C) -> Self {
        Self {
            change: Arc::new(change),
            request: PhantomData,
        }
    }
}

#[async_trait]
impl<Q, C> KeyedHandler for Updating<Q, C>
where
    Q: Update + Rpc,
    Q::Response: OperationResponse<Result = Q::Resource>,
    C: Change<Q>,
{
    type Request = Q;
    type Resource = Q::Resource;

    fn check_further(&self, request: &Q, check: &mut Check) {
        self.change.check(request, check);
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Q>,
    ) -> Result<Ended<Q::Resource>, Fault> {
        let change = Arc::clone(&self.change);
        cx.finish(move |tx| {
            let (change, request) = (Arc::clone(&change), Arc::clone(&request));
            Box::pin(async move {
                check_references(tx, &request.references()).await?;
                let before = tx.get::<Q::Resource>(request.key()).await?;
                let before =
                    before.ok_or_else(|| Fault::not_found(Q::Resource::NOUN, request.key()))?;
                let mut after = before.clone();
                request.apply(&mut after);
                after.stamp(now());
                change.complete(tx, &before, &mut after).await?;
                tx.update(&after).await?;
                Ok(after)
            })
        })
        .await
    }
}
