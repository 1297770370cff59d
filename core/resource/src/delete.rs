//! Deleting: refused while other rows refer to the one that is to go.

use std::{marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    call::Rpc, crud::Delete, event::OperationResponse, fault::Fault, meta::Resource,
};
use cairn_store::Tx;
use cairn_types::ErrorCode;

use crate::Plain;

/// What a resource adds to its deletion.
#[async_trait]
pub trait Removal<Q: Delete>: Send + Sync + 'static {
    /// Removes what goes with the row, in the same transaction; or refuses.
    ///
    /// # Errors
    /// The fault that the deletion ends with; nothing is written then.
    async fn complete(&self, _tx: &mut Tx, _resource: &Q::Resource) -> Result<(), Fault> {
        Ok(())
    }
}

impl<Q: Delete> Removal<Q> for Plain {}

/// Handles the rpc whose request is `Q`.
pub struct Deleting<Q, C = Plain> {
    removal: Arc<C>,
    request: PhantomData<fn() -> Q>,
}

impl<Q> Deleting<Q> {
    /// For a resource that adds nothing.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(Plain)
    }
}

impl<Q, C> Deleting<Q, C> {
    /// For a resource that adds `removal`.
    pub fn with(removal: C) -> Self {
        Self {
            removal: Arc::new(removal),
            request: PhantomData,
        }
    }
}

#[async_trait]
impl<Q, C> KeyedHandler for Deleting<Q, C>
where
    Q: Delete + Rpc,
    Q::Response: OperationResponse<Result = Q::Resource>,
    C: Removal<Q>,
{
    type Request = Q;
    type Resource = Q::Resource;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Q>,
    ) -> Result<Ended<Q::Resource>, Fault> {
        let removal = Arc::clone(&self.removal);
        cx.finish(move |tx| {
            let (removal, request) = (Arc::clone(&removal), Arc::clone(&request));
            Box::pin(async move {
                let (noun, uuid) = (Q::Resource::NOUN, request.key());
                let resource = tx.get::<Q::Resource>(uuid).await?;
                let resource = resource.ok_or_else(|| Fault::not_found(noun, uuid))?;
                removal.complete(tx, &resource).await?;
                let referrers = tx.referrers(noun, uuid).await?;
                if !referrers.is_empty() {
                    return Err(in_use(noun, uuid, &referrers));
                }
                tx.delete::<Q::Resource>(uuid).await?;
                Ok(resource)
            })
        })
        .await
    }
}

/// The refusal to delete what others refer to: how many of which nouns do.
#[must_use]
pub fn in_use(noun: &str, uuid: &str, referrers: &[(String, u64)]) -> Fault {
    let who: Vec<_> = referrers
        .iter()
        .map(|(noun, count)| format!("{count} {noun}"))
        .collect();
    let message = format!(
        "{noun} {uuid} is in use by {}; delete that first, or all of it by a cascade plan",
        who.join(", ")
    );
    Fault::new(ErrorCode::InUse, message).on(noun, uuid)
}
