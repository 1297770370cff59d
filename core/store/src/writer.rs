//! Writes as those see them that perform them: closures that wait to be run.

use std::any::Any;

use cairn_boot::metrics::Counters;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{StoreError, Tx};

/// The most writes that wait; who comes then waits for a place.
pub(crate) const WAITING: usize = 1024;

pub(crate) static COMMITS: Counters<0> = Counters::new(
    "cairn_store_commits_total",
    "Transactions committed; on SQLite the writes of many callers share one.",
    [],
);

/// What those that write are asked for.
pub(crate) enum Request {
    Write(Box<dyn Job>),
    /// To end when all is written that waited before.
    Close,
}

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

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
