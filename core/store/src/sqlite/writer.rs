//! The thread that writes: all writes that wait become one transaction and one commit.
//!
//! A commit costs an fsync, whatever is in it. Under load the writes of many callers share one, and
//! it is waited a moment for more of them; a write that comes alone does not wait for others.
//!
//! The thread runs the closures itself. What a closure may await, its transaction, is always ready,
//! so a write is handed over once and answered once, however many statements it has.
//!
//! A write that fails must not take the others with it. To be able to undo one of many, SQLite keeps
//! a copy of every page that it changes, so the writes of a transaction are first run without that.
//! If one fails after it has changed something, all are undone and run again, each to be undone
//! alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
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

/// After a transaction of so many writes others are on their way, and it is waited so long for them:
/// a commit costs the same for few as for many, and who is answered together goes on together.
const CROWD: usize = 16;
const GATHER: Duration = Duration::from_millis(2);

/// After a transaction that had to be run again, so many keep from the start what undoes each write.
const CAREFUL: u32 = 16;

/// Where tests run, one in so many transactions is run again, so that writes that must not be are
/// found.
const AGAIN_IN_TESTS: u32 = 5;

/// How the writes of a transaction are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// All together.
    All,
    /// Each by itself.
    Each,
}

/// Writes until it is told to close and then what still waits, or until nobody can send any more.
pub(crate) fn run(mut tx: Tx, mut waiting: mpsc::Receiver<Request>) {
    let (mut requests, mut batch) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut pace = Pace::default();
    loop {
        if pace.writes >= CROWD {
            gather();
        }
        pace.writes = waiting.blocking_recv_many(&mut requests, BATCH);
        if pace.writes == 0 {
            return;
        }
        for request in requests.drain(..) {
            match request {
                Request::Write(job) => batch.push(job),
                Request::Close => waiting.close(),
            }
        }
        commit(&mut tx, &mut batch, &mut pace);
        for job in batch.drain(..) {
            job.answer();
        }
    }
}

/// Has those that are on their way be there. Nothing else has to run on this thread.
#[expect(clippy::disallowed_methods, reason = "the thread is the writer's own")]
fn gather() {
    thread::sleep(GATHER);
}

/// What was learned of the transactions so far.
#[derive(Debug, Default)]
struct Pace {
    /// How many writes the last one took.
    writes: usize,
    /// So many more undo each write by itself.
    careful: u32,
    /// How many there were.
    transactions: u32,
}

impl Pace {
    /// How the writes of the next transaction are undone.
    fn next(&mut self) -> Undo {
        self.transactions = self.transactions.wrapping_add(1);
        if self.careful == 0 {
            return Undo::All;
        }
        self.careful -= 1;
        Undo::Each
    }

    /// Whether a transaction is to be run again after it came to this.
    fn is_to_run_again(&mut self, run: &Run) -> bool {
        match run {
            Run::Undone => {
                self.careful = CAREFUL;
                true
            }
            Run::Whole => {
                cfg!(debug_assertions) && self.transactions.is_multiple_of(AGAIN_IN_TESTS)
            }
        }
    }
}

/// What running all writes of a transaction came to.
enum Run {
    /// They are to be committed.
    Whole,
    /// One failed, and all are undone.
    Undone,
}

/// One transaction. After it each job has what it should answer.
fn commit(tx: &mut Tx, batch: &mut Vec<Box<dyn Job>>, pace: &mut Pace) {
    batch.retain(|job| !job.is_abandoned());
    let committed = match batch.len() {
        0 => return,
        1 => run_all(tx, batch, Undo::All),
        _ => run_many(tx, batch, pace),
    };
    let committed = committed.and_then(|run| match run {
        Run::Whole => session(tx)?.end(true).map_err(not_committed),
        Run::Undone => Ok(()),
    });
    if let Err(error) = committed {
        // SQLite may have done so already.
        let _ = session(tx).and_then(|session| session.end(false));
        // Also those that returned an error: it may come from what another one wrote.
        for job in batch {
            job.fail(error.clone());
        }
    }
}

fn run_many(tx: &mut Tx, batch: &mut [Box<dyn Job>], pace: &mut Pace) -> Result<Run, StoreError> {
    let undo = pace.next();
    let run = run_all(tx, batch, undo)?;
    if undo == Undo::All && pace.is_to_run_again(&run) {
        session(tx)?.end(false).map_err(not_committed)?;
        return run_all(tx, batch, Undo::Each);
    }
    Ok(run)
}

fn run_all(tx: &mut Tx, batch: &mut [Box<dyn Job>], undo: Undo) -> Result<Run, StoreError> {
    session(tx)?.begin(undo);
    for job in batch {
        if job.is_abandoned() {
            continue;
        }
        session(tx)?.begin_write();
        let keep = run_one(tx, &mut **job);
        let session = session(tx)?;
        if !keep && session.has_changed() && session.failure().is_none() {
            match undo {
                Undo::Each => session.undo_write(),
                Undo::All => {
                    session.end(false).map_err(not_committed)?;
                    return Ok(Run::Undone);
                }
            }
        }
        if let Some(error) = session.failure() {
            return Err(not_committed(error.clone()));
        }
    }
    Ok(Run::Whole)
}

/// Runs a closure; false if it wants to be undone.
pub(super) fn run_one(tx: &mut Tx, job: &mut dyn Job) -> bool {
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(tx).now_or_never()));
    match ran {
        Ok(Some(keep)) => keep,
        Ok(None) => {
            job.fail(StoreError::Waits);
            false
        }
        Err(panic) => {
            job.fail(StoreError::Panicked(panic_message(&*panic)));
            false
        }
    }
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
