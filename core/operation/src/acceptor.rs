//! Writes accepted calls, all that wait in one transaction, and puts them into their queues in
//! the order of their rows: one task does both, so that the order after a restart is the same.

use std::sync::{Arc, Weak};

use cairn_proto::{call::Context, fault::Fault};
use cairn_types::OperationUuid;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    OperationError,
    handler::Plan,
    live::{Live, Told},
    metrics,
    operations::Inner,
    row::{self, NewOperation, Written},
};

/// How many calls one transaction takes at most.
const BATCH: usize = 256;

/// A checked call that waits to be written.
pub(crate) struct Pending {
    pub(crate) new: NewOperation,
    pub(crate) plan: Plan,
    pub(crate) context: Context,
    pub(crate) reply: oneshot::Sender<Result<Accepted, Fault>>,
}

/// What a call became.
pub(crate) enum Accepted {
    /// An operation with these events.
    New(BoxStream<'static, Result<Told, Fault>>),
    /// One that was accepted before.
    Repeat(OperationUuid),
}

/// Accepts until nobody can send any more. It does not keep `inner` alive.
pub(crate) async fn accept(inner: Weak<Inner>, mut pending: mpsc::Receiver<Pending>) {
    let mut batch = Vec::new();
    while pending.recv_many(&mut batch, BATCH).await > 0 {
        let Some(inner) = inner.upgrade() else { return };
        // A caller that left before its call was written leaves no trace.
        batch.retain(|pending: &Pending| !pending.reply.is_closed());
        inner.accept_batch(std::mem::take(&mut batch)).await;
    }
}

impl Inner {
    async fn accept_batch(self: &Arc<Self>, batch: Vec<Pending>) {
        let (new, waiting): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(
                |Pending {
                     new,
                     plan,
                     context,
                     reply,
                 }| (new, (plan, context, reply)),
            )
            .unzip();
        let new: Arc<[NewOperation]> = new.into();
        let all = self.insert(new.clone(), 0..new.len()).await;
        for (i, (plan, context, reply)) in waiting.into_iter().enumerate() {
            let written = match &all {
                Ok(written) => Ok(written[i]),
                // One that cannot be written must not refuse the others.
                Err(_) if new.len() > 1 => self
                    .insert(new.clone(), i..i + 1)
                    .await
                    .map(|written| written[0]),
                Err(fault) => Err(fault.clone()),
            };
            let accepted = match written {
                Ok(Written::New) => self.begin(&new[i], plan, context),
                Ok(Written::Repeat(operation)) => Ok(Accepted::Repeat(operation)),
                Ok(Written::KeyReused(operation)) => {
                    Err(OperationError::KeyReused(operation).into())
                }
                Err(fault) => Err(fault),
            };
            // The caller may have left: its operation runs nonetheless.
            let _ = reply.send(accepted);
        }
    }

    async fn insert(
        &self,
        new: Arc<[NewOperation]>,
        which: std::ops::Range<usize>,
    ) -> Result<Vec<Written>, Fault> {
        if which.is_empty() {
            return Ok(Vec::new());
        }
        self.store
            .write(move |tx| {
                let (new, which) = (new.clone(), which.clone());
                Box::pin(async move { row::insert(tx, &new[which]).await })
            })
            .await
    }

    fn begin(
        self: &Arc<Self>,
        new: &NewOperation,
        plan: Plan,
        context: Context,
    ) -> Result<Accepted, Fault> {
        let live = Live::new(&new.operation).inspect_err(|fault| {
            error!(
                error = fault.message,
                "an operation that was written cannot be read"
            );
        })?;
        metrics::accepted(plan.method);
        let live = self.hub.join(live);
        let events = live.follow(0).boxed();
        self.start(live, plan, context, false);
        Ok(Accepted::New(events))
    }
}
