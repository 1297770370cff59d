//! The tasks that write to PostgreSQL, each on a connection of its own; the server lets their
//! commits share an fsync.
//!
//! Transactions are serializable: one that met another is undone by the server and run again. When
//! that happens to a write too often it runs without others beside it, so that it gets to its end;
//! there are no others but those of this process.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cairn_types::Uuid;
use futures::FutureExt as _;
use tokio::{
    sync::{Mutex, RwLock, mpsc},
    time::sleep,
};

use super::session::End;
use crate::{
    StoreError, Tx,
    tx::Writing,
    writer::{Job, Request, panic_message},
};

/// How often a write is tried beside others, and then alone.
const TRIES_BESIDE: u32 = 3;
const TRIES: u32 = 8;

/// The longest pause before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_millis(4);

/// Writes until it is told to close and then what still waits, or until nobody can send any more.
pub(crate) async fn run(
    mut tx: Tx,
    waiting: Arc<Mutex<mpsc::Receiver<Request>>>,
    beside: Arc<RwLock<()>>,
) {
    loop {
        let mut job = {
            let mut waiting = waiting.lock().await;
            match waiting.recv().await {
                Some(Request::Write(job)) => job,
                Some(Request::Close) => {
                    waiting.close();
                    continue;
                }
                None => break,
            }
        };
        // A caller that left before the write began takes it back.
        if !job.is_abandoned()
            && let Err(error) = perform(&mut tx, &mut *job, &beside).await
        {
            job.fail(error);
        }
        job.answer();
    }
    if let Writing::Postgres(session) = tx.writing {
        session.close().await;
    }
}

/// Runs a write until it is committed, or has an error of its own.
async fn perform(tx: &mut Tx, job: &mut dyn Job, beside: &RwLock<()>) -> Result<(), StoreError> {
    let (mut tries, mut careful, mut doubted) = (1, false, false);
    loop {
        let (shared, alone) = match tries {
            ..=TRIES_BESIDE => (Some(beside.read().await), None),
            _ => (None, Some(beside.write().await)),
        };
        let end = once(tx, job, careful).await;
        drop((shared, alone));
        match end? {
            End::Done => return Ok(()),
            End::Again => careful = true,
            End::Doubted if doubted => return Ok(()),
            End::Doubted => doubted = true,
            End::Retry(_) if tries < TRIES => {
                sleep(jitter(PAUSE * 2_u32.pow(tries - 1))).await;
                tries += 1;
            }
            End::Retry(cause @ StoreError::Lost { .. }) => return Err(cause),
            End::Retry(cause @ StoreError::Connect { .. }) => return Err(cause),
            End::Retry(cause) => {
                return Err(StoreError::Conflict {
                    cause: Arc::new(cause),
                });
            }
            End::Fail(error @ (StoreError::NotOwner { .. } | StoreError::Unknown { .. })) => {
                return Err(error);
            }
            End::Fail(error) => {
                return Err(StoreError::Commit {
                    cause: Arc::new(error),
                });
            }
        }
    }
}

async fn once(tx: &mut Tx, job: &mut dyn Job, careful: bool) -> Result<End, StoreError> {
    session(tx)?.begin(careful)?;
    let ran = AssertUnwindSafe(job.run(tx)).catch_unwind().await;
    let keep = ran.unwrap_or_else(|panic| {
        job.fail(StoreError::Panicked(panic_message(&*panic)));
        false
    });
    Ok(session(tx)?.end(keep).await)
}

fn session(tx: &mut Tx) -> Result<&mut super::Session, StoreError> {
    match &mut tx.writing {
        Writing::Postgres(session) => Ok(session),
        Writing::Sqlite(_) => Err(StoreError::Closed),
    }
}

/// A part of it, so that those who met do not meet again.
fn jitter(longest: Duration) -> Duration {
    let part = u32::from(Uuid::new_v4().as_bytes()[0]);
    longest * part / u32::from(u8::MAX)
}
