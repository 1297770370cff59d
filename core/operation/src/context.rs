//! What a handler knows of the operation it runs for, and how it ends it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use cairn_proto::{fault::Fault, operation::v1alpha1::Progress};
use cairn_store::{BoxFuture, Store, StoreError, Tx};
use cairn_types::{AccountUuid, OperationUuid};
use prost::Message;

use crate::{At, Ended, Ending, Failpoints, OperationError, Then, live::Live, row};

/// The operation that a handler runs for.
pub struct OperationContext {
    pub(crate) store: Store,
    pub(crate) live: Arc<Live>,
    pub(crate) account: AccountUuid,
    pub(crate) failpoints: Option<Arc<dyn Failpoints>>,
    pub(crate) has_log: AtomicBool,
    /// The end, once this run committed it or found it.
    pub(crate) ended: OnceLock<Arc<Ending>>,
    /// What makes this run valid, if it is one after the operation's end.
    pub(crate) leftover: Option<Leftover>,
}

/// Where it is kept that an operation has left something, and which run for that this is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leftover {
    pub(crate) table: &'static str,
    pub(crate) attempt: u32,
}

/// What a transaction of an operation means for it.
#[derive(Debug)]
pub enum Verdict<T> {
    /// It goes on.
    GoOn(T),
    /// It ends with this encoded result.
    Succeeded(Bytes),
    /// It ends with this fault.
    Failed(Fault),
}

/// What a transaction of an operation led to.
#[derive(Debug)]
pub enum Committed<T> {
    /// The operation goes on.
    GoOn(T),
    /// It has ended: now, or before, and then nothing else was written.
    Ended(Arc<Ending>),
}

impl OperationContext {
    /// Which operation.
    #[must_use]
    pub fn uuid(&self) -> OperationUuid {
        self.live.uuid
    }

    /// The account that called.
    #[must_use]
    pub fn account(&self) -> AccountUuid {
        self.account
    }

    /// The database; to write, see [`OperationContext::finish`].
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Tells watchers how far it is: a share of 0 to 100 percent. Nothing of it is stored.
    pub fn progress(&self, percent: u32, message: impl Into<String>) {
        self.live.progress(Progress {
            percent: percent.min(100),
            message: message.into(),
        });
    }

    /// Ends when the operation should give up: with the reason, a cancel or the time limit.
    pub async fn cancelled(&self) -> Fault {
        self.live.interrupted().await.into()
    }

    /// Whether the operation should go on.
    ///
    /// # Errors
    /// `Cancelled` or `DeadlineExceeded` if it should not.
    pub fn check_cancelled(&self) -> Result<(), Fault> {
        Ok(self.live.check()?)
    }

    /// Whether the time limit is over; unlike [`OperationContext::check_cancelled`] it does not
    /// mind a cancel.
    #[must_use]
    pub fn over_time_limit(&self) -> bool {
        self.live.over_time_limit()
    }

    /// Which run this is: 0 for those until the operation's end, then the number of the attempt at
    /// what that left, see [`Operations::resume`](crate::Operations::resume).
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.leftover.map_or(0, |leftover| leftover.attempt)
    }

    /// Ends the operation in its result: what `f` writes and the end commit together. If it has
    /// ended already, `f` does not run, and that end is what is returned.
    ///
    /// # Errors
    /// The fault of `f` or of the database, and then nothing was written; or the fault that the
    /// operation had ended with.
    pub async fn finish<R, F>(&self, mut f: F) -> Result<Ended<R>, Fault>
    where
        R: Message + Default + 'static,
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<R, Fault>> + Send + 'static,
    {
        let committed = self
            .commit::<(), _>(move |tx| {
                let result = f(tx);
                Box::pin(async move {
                    let result = result.await?;
                    Ok(Verdict::Succeeded(result.encode_to_vec().into()))
                })
            })
            .await?;
        match committed {
            Committed::Ended(ending) => Ended::of(ending),
            Committed::GoOn(()) => Err(row::unreadable(&self.uuid().to_string(), "end")),
        }
    }

    /// A transaction that may end the operation, as its verdict says. If it has ended already,
    /// `f` does not run. For the flow engine; a handler without a flow needs
    /// [`OperationContext::finish`] only.
    ///
    /// In a run for what the operation left, an end means that nothing is left; the operation keeps
    /// the end that it had.
    ///
    /// # Errors
    /// The fault of `f` or of the database: nothing was written.
    pub async fn commit<T, F>(&self, f: F) -> Result<Committed<T>, Fault>
    where
        T: Send + 'static,
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<Verdict<T>, Fault>> + Send + 'static,
    {
        let (id, uuid, leftover) = (self.uuid(), self.uuid().to_string(), self.leftover);
        // A store runs a closure again from its start, so it is never run twice at once.
        let f = Arc::new(tokio::sync::Mutex::new(f));
        let committed = self
            .store
            .write(move |tx| {
                let (f, uuid) = (f.clone(), uuid.clone());
                Box::pin(async move {
                    let over = match leftover {
                        None => !row::is_accepted(tx, &uuid).await?,
                        Some(leftover) => !leftover.is_there(tx, id).await?,
                    };
                    if over {
                        let operation = row::operation(tx, &uuid).await?;
                        let ending = row::ending_in(tx, operation).await?;
                        return Ok(Committed::Ended(Arc::new(ending)));
                    }
                    let mut f = f.lock().await;
                    let outcome = match (*f)(tx).await? {
                        Verdict::GoOn(value) => return Ok(Committed::GoOn(value)),
                        Verdict::Succeeded(result) => Ok(result),
                        Verdict::Failed(fault) => Err(fault),
                    };
                    let operation = row::operation(tx, &uuid).await?;
                    if let Some(leftover) = leftover {
                        leftover.done(tx, id).await?;
                        let ending = row::ending_in(tx, operation).await?;
                        return Ok(Committed::Ended(Arc::new(ending)));
                    }
                    let ending = Ending::of(operation, outcome);
                    row::end(tx, &ending).await?;
                    Ok(Committed::Ended(Arc::new(ending)))
                })
            })
            .await;
        if let Ok(Committed::Ended(ending)) = &committed {
            // A second end is the same: the first that committed.
            let _ = self.ended.set(ending.clone());
        }
        committed
    }

    /// Says that from now on the run keeps a log: it is no longer dropped at its time limit, and
    /// a fault ends it only by [`OperationContext::commit`]. For the flow engine.
    pub fn begin_log(&self) {
        self.has_log.store(true, Ordering::Release);
    }

    /// Whether this run or one before it began a log: if not, there is none to look for. For the
    /// flow engine.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.keeps_log() || self.attempt() > 0
    }

    /// Stores that the run must be brought to its end, in the transaction that begins it; for a
    /// handler whose log is not in a table of [`Builder::logs`](crate::Builder::logs).
    ///
    /// # Errors
    /// What the database says.
    pub async fn mark_log(tx: &mut Tx, operation: OperationUuid) -> Result<(), StoreError> {
        row::mark_log(tx, operation).await
    }

    /// Tells a test that the run has come to `at`, and asks it what then.
    pub async fn failpoint(&self, at: At<'_>) -> Then {
        match &self.failpoints {
            Some(failpoints) => failpoints.at(at).await,
            None => Then::GoOn,
        }
    }

    pub(crate) fn keeps_log(&self) -> bool {
        self.has_log.load(Ordering::Acquire)
    }

    /// Ends the operation with a fault of this crate or of its handler.
    pub(crate) async fn fail(&self, fault: Fault) -> Result<Arc<Ending>, Fault> {
        let committed = self
            .commit::<(), _>(move |_| {
                let fault = fault.clone();
                Box::pin(async move { Ok(Verdict::Failed(fault)) })
            })
            .await?;
        match committed {
            Committed::Ended(ending) => Ok(ending),
            Committed::GoOn(()) => Err(OperationError::Stopping.into()),
        }
    }
}
