//! What an operation left when it ended: its handler is run again for it, in the same queue, until
//! nothing is left.
//!
//! Whoever keeps what is left, the flow engine, does so in a table with a row for each such
//! operation, by its uuid ([`Builder::leftovers`](crate::Builder::leftovers)). The row is what makes
//! such a run valid: each of its transactions looks for it, and the one that would end the operation
//! deletes it. The operation's end stays what it was.

use std::{panic::AssertUnwindSafe, sync::Arc};

use cairn_proto::{
    call::Context,
    fault::Fault,
    operation::v1alpha1::{Operation, OperationState},
};
use cairn_store::{StoreError, Tx};
use cairn_types::{ErrorCode, OperationUuid};
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tracing::{Instrument as _, error, info_span};

use crate::{
    Committed, OperationError, Operations, Verdict, context::Leftover, handler::Plan, live::Live,
    operations::Inner, row, run::panic_text,
};

impl Operations {
    /// Runs the handler of an operation that has ended again, for what that left. `attempt` counts
    /// such runs, from 1; a repeat of one after a crash has the same number. Returns when nothing is
    /// left, also if that was so before. The run goes on if the caller leaves.
    ///
    /// # Errors
    /// Why something is left still; `Unavailable` if the node stops.
    pub async fn resume(&self, uuid: OperationUuid, attempt: u32) -> Result<(), Fault> {
        let inner = self.inner().clone();
        let (done, outcome) = oneshot::channel();
        let stop = inner.stop.clone();
        let span = info_span!("leftover", operation = %uuid, attempt);
        let tasks = inner.tasks.clone();
        tasks.spawn(
            async move {
                let run = stop.run_until_cancelled(inner.resume(uuid, attempt));
                if let Some(outcome) = run.await {
                    // The caller may have left.
                    let _ = done.send(outcome);
                }
            }
            .instrument(span),
        );
        outcome.await.map_err(|_| OperationError::Stopping)?
    }
}

impl Inner {
    async fn resume(self: &Arc<Self>, uuid: OperationUuid, attempt: u32) -> Result<(), Fault> {
        let operation = self.row(uuid).await?;
        if operation.state() == OperationState::Accepted {
            let message = format!("operation {uuid} has not ended, so it has left nothing yet");
            return Err(Fault::new(ErrorCode::WrongState, message).on("operation", &operation.uuid));
        }
        let plan = self.plan_again(&operation).await?;
        let signature = &plan.queue.signature;
        let slot = self.queues.enter(signature, plan.queue.level, uuid).await;
        let ended = self.run_again(&operation, attempt, &plan).await;
        drop(slot);
        ended
    }

    /// The plan of an operation's stored request.
    async fn plan_again(&self, operation: &Operation) -> Result<Plan, Fault> {
        let request = row::request(&self.store, &operation.uuid).await?;
        let method = &operation.method;
        let handler = self.handlers.get(method.as_str()).ok_or_else(|| {
            Fault::new(
                ErrorCode::Unimplemented,
                format!("nothing here handles {method}"),
            )
        })?;
        let plan = handler.plan(&request);
        plan.ok_or_else(|| row::unreadable(&operation.uuid, "request"))?
    }

    async fn run_again(
        &self,
        operation: &Operation,
        attempt: u32,
        plan: &Plan,
    ) -> Result<(), Fault> {
        let account = operation.account_uuid.parse();
        let account = account.map_err(|_| row::unreadable(&operation.uuid, "account"))?;
        let live = Arc::new(Live::again(operation, plan.time_limit)?);
        let mut context = Context::of(account);
        context.held = [plan.queue.signature.as_str().to_owned()].into();
        context.operation = Some(live.uuid);
        let mut cx = self.context(live, &context, true);
        let table = self.leftovers.ok_or(OperationError::NoLeftovers)?;
        cx.leftover = Some(Leftover { table, attempt });
        // Another run may have finished it while this one waited.
        if let Committed::Ended(_) = cx
            .commit(|_| async { Ok(Verdict::GoOn(())) }.boxed())
            .await?
        {
            return Ok(());
        }
        // After a panic nothing of the run is used again but the context, which is atomic.
        let run = AssertUnwindSafe(context.scope(plan.job.run(&cx))).catch_unwind();
        let outcome = run.await.unwrap_or_else(|panic| {
            let panic = panic_text(&*panic).to_owned();
            error!(panic, "handler panicked");
            Err(OperationError::Panicked(panic).into())
        });
        // What the handler returns is the operation's end, if this run has nothing left.
        match (cx.ended.get(), outcome) {
            (Some(_), _) => Ok(()),
            (None, Err(fault)) => Err(fault),
            (None, Ok(_)) => Err(row::unreadable(&operation.uuid, "end")),
        }
    }
}

impl Leftover {
    pub(crate) async fn is_there(
        self,
        tx: &mut Tx,
        operation: OperationUuid,
    ) -> Result<bool, StoreError> {
        let sql = format!("SELECT uuid FROM {} WHERE uuid = ?", self.table);
        Ok(!tx.rows(&sql, vec![operation.into()]).await?.is_empty())
    }

    pub(crate) async fn done(
        self,
        tx: &mut Tx,
        operation: OperationUuid,
    ) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM {} WHERE uuid = ?", self.table);
        tx.execute(&sql, vec![operation.into()]).await.map(drop)
    }
}
