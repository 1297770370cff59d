//! Puts calls into their queues, and writes those that have a place, all that wait in one
//! transaction: one task does both, so that the order after a restart is the same. A call that its
//! queue refuses is not written.

use std::sync::{Arc, Weak};

use cairn_proto::{call::Context, fault::Fault};
use cairn_queue::{Entry, Ticket};
use cairn_types::OperationUuid;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    OperationError, Queue,
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
        let mut new = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Pending {
            new: operation,
            plan,
            context,
            reply,
        } in batch
        {
            match self.place(&operation, &plan, &context).await {
                Ok(ticket) => {
                    new.push(operation);
                    waiting.push((plan, context, ticket, reply));
                }
                // The caller may have left.
                Err(instead) => drop(reply.send(instead)),
            }
        }
        let new: Arc<[NewOperation]> = new.into();
        let all = self.insert(new.clone(), 0..new.len()).await;
        for (i, (plan, context, ticket, reply)) in waiting.into_iter().enumerate() {
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
                Ok(Written::New) => self.begin(&new[i], plan, context, ticket),
                Ok(before) => accepted_before(before),
                Err(fault) => Err(fault),
            };
            // The caller may have left: its operation runs nonetheless.
            let _ = reply.send(accepted);
        }
    }

    /// A place in the queue; or, if that refuses, what the call comes to instead. A repeat is
    /// answered as one all the same.
    async fn place(
        &self,
        new: &NewOperation,
        plan: &Plan,
        context: &Context,
    ) -> Result<Ticket, Result<Accepted, Fault>> {
        let uuid = row::parse(&new.operation.uuid).map_err(Err)?;
        let entry = entry(uuid, plan, context).most_waiting(plan.queue.most_waiting);
        let refused = match self.queues.enter(entry) {
            Ok(ticket) => return Ok(ticket),
            Err(refused) => refused,
        };
        match row::find_repeated(&self.store, new).await {
            Ok(Some(before)) => Err(accepted_before(before)),
            Ok(None) => {
                metrics::refused(&refused);
                Err(Err(refused.into()))
            }
            Err(fault) => Err(Err(fault)),
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
        ticket: Ticket,
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
        self.start(live, plan, context, ticket, false);
        Ok(Accepted::New(events))
    }
}

/// The place that an operation wants, by its plan and the context of the call.
pub(crate) fn entry(uuid: OperationUuid, plan: &Plan, context: &Context) -> Entry {
    let Queue {
        signature,
        level,
        priority,
        ..
    } = &plan.queue;
    let entry = Entry::new(signature.clone(), *level, uuid)
        .account(context.account)
        .priority(*priority);
    match context.operation {
        Some(caller) => entry.called_by(caller, &context.held),
        None => entry,
    }
}

fn accepted_before(before: Written) -> Result<Accepted, Fault> {
    match before {
        Written::Repeat(operation) => Ok(Accepted::Repeat(operation)),
        Written::KeyReused(operation) => Err(OperationError::KeyReused(operation).into()),
        // Not asked of one that was just written.
        Written::New => Err(OperationError::Stopping.into()),
    }
}
