//! Everything that runs in the background of a process: named, with a policy for its failure.
//!
//! A task that ends unseen takes a part of the process with it. So each has a name for the log, and
//! says at its start what its failure means. This is the only place that spawns.

use std::{
    any::Any,
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    error::Error,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cairn_types::{Coded, ErrorCode, chain};
use futures::FutureExt as _;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

/// What the failure of a task (an error or a panic) means. To end well is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The process is of no use without it: every task is asked to stop, and [`Tasks::failed`]
    /// tells why.
    StopProcess,
    /// It is logged, and nothing else happens.
    LogAndEnd,
    /// It is logged and the task starts again.
    Restart {
        /// The pause before each new start.
        backoff: Duration,
    },
}

/// The failure that stopped the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}` failed: {reason}")]
pub struct TaskFailed {
    /// The task's name.
    pub task: String,
    /// Its error with all causes, or the words of its panic.
    pub reason: String,
}

impl Coded for TaskFailed {
    fn code(&self) -> ErrorCode {
        ErrorCode::Internal
    }
}

/// The tasks of a process, or of a part of it that is stopped on its own. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopping: CancellationToken,
    tracker: TaskTracker,
    failed: OnceLock<TaskFailed>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: HashMap<u64, (Cow<'static, str>, Option<AbortHandle>)>,
}

impl Tasks {
    /// A set without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that the process cannot do without, and that fails only by a panic: then
    /// the process stops. Otherwise as [`Tasks::start`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, like all spawning.
    pub fn start_once<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let mut run = Some(run);
        self.start(name, OnFailure::StopProcess, move |stop| {
            let run = run.take().map(|run| run(stop));
            async move {
                if let Some(run) = run {
                    run.await;
                }
                Ok::<_, Infallible>(())
            }
        });
    }

    /// Starts a task. `run` makes its future, again at each restart; the token that it is given
    /// asks it to stop, and a task that goes on is aborted at the limit of [`Tasks::shutdown`].
    /// Once the set is stopping, nothing starts.
    ///
    /// # Panics
    /// Outside of a tokio runtime, like all spawning.
    pub fn start<F, E>(
        &self,
        name: impl Into<Cow<'static, str>>,
        on_failure: OnFailure,
        mut run: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.0.stopping.is_cancelled() {
            return;
        }
        let name = name.into();
        let entry = Entry::new(self.0.clone(), name.clone());
        let id = entry.id;
        let inner = self.0.clone();
        let task = self.0.tracker.track_future(async move {
            let _entry = entry;
            loop {
                let stop = inner.stopping.clone();
                // After a panic nothing of the future is used again, and what `run` captured is
                // either shared (and then its owner's to keep whole) or used by this task alone.
                let outcome = AssertUnwindSafe(async { run(stop).await.map_err(Into::into) });
                let reason = match outcome.catch_unwind().await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => chain(&*error),
                    Err(panic) => format!("panic: {}", panic_text(&*panic)),
                };
                match on_failure {
                    OnFailure::StopProcess => {
                        error!(task = %name, error = reason, "task failed; the process stops");
                        let _ = inner.failed.set(TaskFailed {
                            task: name.into_owned(),
                            reason,
                        });
                        return inner.stopping.cancel();
                    }
                    OnFailure::LogAndEnd => {
                        return error!(task = %name, error = reason, "task failed");
                    }
                    OnFailure::Restart { backoff } => {
                        warn!(task = %name, error = reason, ?backoff, "task failed; starts again");
                        // Over its time or cancelled, the check is the same.
                        let _ = timeout(backoff, inner.stopping.cancelled()).await;
                        if inner.stopping.is_cancelled() {
                            return;
                        }
                    }
                }
            }
        });
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let handle = tokio::spawn(task).abort_handle();
        // The task may have ended in between: then its entry is gone and needs no handle.
        if let Some((_, slot)) = self.0.running().tasks.get_mut(&id) {
            *slot = Some(handle);
        }
    }

    /// The token that ends when the set stops: by [`Tasks::shutdown`], or by the failure of a task
    /// that the process cannot do without. To cancel it asks every task to stop.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// The first failure of a task under [`OnFailure::StopProcess`]: the process should end with
    /// an error.
    #[must_use]
    pub fn failed(&self) -> Option<&TaskFailed> {
        self.0.failed.get()
    }

    /// Asks every task to stop and waits for them to end, for `limit` at most.
    ///
    /// # Errors
    /// The names of the tasks that were still running at the limit, in order; they are aborted at
    /// their next await.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), Vec<String>> {
        self.0.stopping.cancel();
        self.0.tracker.close();
        if timeout(limit, self.0.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let stuck = self.0.abort_all();
        if stuck.is_empty() { Ok(()) } else { Err(stuck) }
    }

    /// Ends every task at its next await, without asking it to stop, and waits until all are gone.
    pub async fn abort(&self) {
        self.0.abort_all();
        // Now nothing starts any more.
        self.0.stopping.cancel();
        self.0.abort_all();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

impl Inner {
    /// The names of the tasks that ran until now, in order.
    fn abort_all(&self) -> Vec<String> {
        let running = self.running();
        let mut names = Vec::with_capacity(running.tasks.len());
        for (name, handle) in running.tasks.values() {
            names.push(name.clone().into_owned());
            if let Some(handle) = handle {
                handle.abort();
            }
        }
        names.sort_unstable();
        names
    }

    /// No code that can panic runs under the lock, so a poisoned one is whole.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's place in the book of running ones; left when the task ends in whatever way.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Entry {
    fn new(inner: Arc<Inner>, name: Cow<'static, str>) -> Self {
        let mut running = inner.running();
        let id = running.next;
        running.next += 1;
        running.tasks.insert(id, (name, None));
        drop(running);
        Self { inner, id }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.running().tasks.remove(&self.id);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

#[cfg(test)]
mod tests;
