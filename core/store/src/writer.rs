//! The one task that writes to SQLite: all writes that wait become one transaction and one commit.
//!
//! A commit costs an fsync, whatever is in it. Under load the writes of many callers share one;
//! a write that comes alone does not wait for others.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{StoreError, Tx, tx::Writing};

/// The most writes in one transaction.
const BATCH: usize = 128;

/// The most writes that wait; who comes then waits for a place.
pub(crate) const WAITING: usize = 1024;

/// A write, whatever it returns.
pub(crate) trait Job: Send {
    /// Nobody waits for it any more.
    fn is_abandoned(&self) -> bool;

    /// Runs it and keeps what it returns. False if it wants to be undone.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool>;

    /// Replaces what it returned.
    fn fail(&mut self, error: StoreError);

    /// Tells its caller what it returned, if it ran.
    fn answer(self: Box<Self>);
}

/// A closure and its caller.
pub(crate) struct Write<T, E, F> {
    closure: F,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Write<T, E, F> {
    pub(crate) fn new(closure: F, caller: oneshot::Sender<Result<T, E>>) -> Self {
        Self {
            closure,
            outcome: None,
            caller,
        }
    }
}

impl<T, E, F> Job for Write<T, E, F>
where
    F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            let outcome = (self.closure)(tx).await;
            self.outcome.insert(outcome).is_ok()
        })
    }

    fn fail(&mut self, error: StoreError) {
        self.outcome = Some(Err(error.into()));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // The caller may have gone.
            let _ = self.caller.send(outcome);
        }
    }
}

/// Writes until `closing` and then what still waits, or until nobody can send any more.
pub(crate) async fn run(
    mut tx: Tx,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    closing: Arc<Notify>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            received = waiting.recv_many(&mut batch, BATCH) => received,
            () = closing.notified() => {
                waiting.close();
                continue;
            }
        };
        if received == 0 {
            break;
        }
        commit(&mut tx, &mut batch).await;
        for job in batch.drain(..) {
            job.answer();
        }
    }
    if let Writing::Sqlite(connection) = tx.connection {
        connection.close().await;
    }
}

/// One transaction. After it each job has what it should answer.
async fn commit(tx: &mut Tx, batch: &mut Vec<Box<dyn Job>>) {
    batch.retain(|job| !job.is_abandoned());
    if batch.is_empty() {
        return;
    }
    if let Err(error) = run_all(tx, batch).await {
        // SQLite may have done so already.
        let _ = tx.end(false).await;
        // Also those that returned an error: it may come from what another one wrote.
        for job in batch {
            job.fail(error.clone());
        }
    }
}

async fn run_all(tx: &mut Tx, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let alone = batch.len() == 1;
    tx.begin(alone);
    for job in batch {
        if job.is_abandoned() {
            continue;
        }
        tx.begin_write();
        let ran = AssertUnwindSafe(job.run(tx)).catch_unwind().await;
        let keep = ran.unwrap_or_else(|panic| {
            job.fail(StoreError::Panicked(panic_message(&*panic)));
            false
        });
        if !keep {
            tx.undo_write().await;
        }
        if let Some(error) = tx.failure() {
            return Err(not_committed(error.clone()));
        }
        if !keep && alone {
            return tx.end(false).await.map_err(not_committed);
        }
    }
    tx.end(true).await.map_err(not_committed)
}

fn not_committed(error: StoreError) -> StoreError {
    StoreError::Commit {
        cause: Arc::new(error),
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
