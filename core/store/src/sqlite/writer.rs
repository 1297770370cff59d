//! The thread that writes: all writes that wait become one transaction and one commit.
//!
//! A commit costs an fsync, whatever is in it. Under load the writes of many callers share one;
//! a write that comes alone does not wait for others.
//!
//! The thread runs the closures itself. What a closure may await, its transaction, is always ready,
//! so a write is handed over once and answered once, however many statements it has.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::Session;
use crate::{
    StoreError, Tx,
    tx::Writing,
    writer::{Job, Request, panic_message},
};

/// The most writes in one transaction.
const BATCH: usize = 256;

/// Writes until it is told to close and then what still waits, or until nobody can send any more.
pub(crate) fn run(mut tx: Tx, mut waiting: mpsc::Receiver<Request>) {
    let (mut requests, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    while waiting.blocking_recv_many(&mut requests, BATCH) > 0 {
        for request in requests.drain(..) {
            match request {
                Request::Write(job) => batch.push(job),
                Request::Close => waiting.close(),
            }
        }
        commit(&mut tx, &mut batch);
        for job in batch.drain(..) {
            job.answer();
        }
    }
}

/// One transaction. After it each job has what it should answer.
fn commit(tx: &mut Tx, batch: &mut Vec<Box<dyn Job>>) {
    batch.retain(|job| !job.is_abandoned());
    if batch.is_empty() {
        return;
    }
    if let Err(error) = run_all(tx, batch) {
        // SQLite may have done so already.
        let _ = session(tx).and_then(|session| session.end(false));
        // Also those that returned an error: it may come from what another one wrote.
        for job in batch {
            job.fail(error.clone());
        }
    }
}

fn run_all(tx: &mut Tx, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let alone = batch.len() == 1;
    session(tx)?.begin(alone);
    for job in batch {
        if job.is_abandoned() {
            continue;
        }
        session(tx)?.begin_write();
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(tx).now_or_never()));
        let keep = match ran {
            Ok(Some(keep)) => keep,
            Ok(None) => {
                job.fail(StoreError::Waits);
                false
            }
            Err(panic) => {
                job.fail(StoreError::Panicked(panic_message(&*panic)));
                false
            }
        };
        let session = session(tx)?;
        if !keep {
            session.undo_write();
        }
        if let Some(error) = session.failure() {
            return Err(not_committed(error.clone()));
        }
        if !keep && alone {
            return session.end(false).map_err(not_committed);
        }
    }
    session(tx)?.end(true).map_err(not_committed)
}

fn session(tx: &mut Tx) -> Result<&mut Session, StoreError> {
    match &mut tx.writing {
        Writing::Sqlite(session) => Ok(session),
        Writing::Postgres(_) => Err(StoreError::Closed),
    }
}

fn not_committed(error: StoreError) -> StoreError {
    StoreError::Commit {
        cause: Arc::new(error),
    }
}
