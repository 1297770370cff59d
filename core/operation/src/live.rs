//! Operations of this process that have not ended, and those who watch them.
//!
//! A watcher reads the latest state and not a queue of events: a slow one misses progress, holds
//! nothing up, and gets the result in any case.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{Accepted, Operation, Progress},
};
use cairn_types::OperationUuid;
use futures::{Stream, stream};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Ending, OperationError, row, time};

/// The number of the event `accepted`. Those after it are numbered by the microseconds since the
/// operation was made, so that they grow across a restart too.
const ACCEPTED: u64 = 1;

/// The least time between two events of progress to one who watches. A flow whose steps take a
/// moment each is not worth a message each.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// An operation that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) uuid: OperationUuid,
    /// The rpc, without its package.
    pub(crate) name: String,
    accepted: Accepted,
    created: i64,
    deadline: Instant,
    pub(crate) cancel: CancellationToken,
    /// The latest, with its number.
    progress: watch::Sender<Option<(u64, Progress)>>,
    ended: watch::Sender<Option<Arc<Ending>>>,
    running: AtomicBool,
}

/// An event as this process knows it.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Accepted(u64, Accepted),
    Progress(u64, Progress),
    Ended(u64, Arc<Ending>),
}

impl Live {
    pub(crate) fn new(operation: &Operation) -> Result<Self, Fault> {
        let cancel = CancellationToken::new();
        if operation.cancel_requested {
            cancel.cancel();
        }
        Ok(Self {
            uuid: row::parse(&operation.uuid)?,
            name: operation.name.clone(),
            accepted: accepted(operation),
            created: time::from_timestamp(operation.create_time),
            deadline: time::instant(time::from_timestamp(operation.deadline)),
            cancel,
            progress: watch::Sender::default(),
            ended: watch::Sender::default(),
            running: AtomicBool::new(false),
        })
    }

    /// One that has ended, and is run again for what it left, for so long.
    pub(crate) fn again(operation: &Operation, time_limit: Duration) -> Result<Self, Fault> {
        Ok(Self {
            deadline: Instant::now() + time_limit,
            cancel: CancellationToken::new(),
            ..Self::new(operation)?
        })
    }

    /// Says that it was put into its queue: true for the one who is to do that.
    pub(crate) fn begin(&self) -> bool {
        !self.running.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn progress(&self, progress: Progress) {
        self.progress.send_modify(|latest| {
            let last = latest.as_ref().map_or(ACCEPTED, |(n, _)| *n);
            let number = age(self.created, time::now()).max(last + 1);
            *latest = Some((number, progress));
        });
    }

    pub(crate) fn end(&self, ending: Arc<Ending>) {
        self.ended.send_replace(Some(ending));
    }

    /// Ends when the operation is cancelled or its time limit is over, and says which.
    pub(crate) async fn interrupted(&self) -> OperationError {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => OperationError::Cancelled,
            () = self.time_limit() => OperationError::TimeLimit,
        }
    }

    /// Ends when the time limit is over.
    pub(crate) async fn time_limit(&self) {
        // A timer fires a little late; what is over already needs none.
        if !self.over_time_limit() {
            tokio::time::sleep_until(self.deadline).await;
        }
    }

    pub(crate) fn over_time_limit(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Whether it is cancelled or over its time now.
    pub(crate) fn check(&self) -> Result<(), OperationError> {
        if self.cancel.is_cancelled() {
            Err(OperationError::Cancelled)
        } else if self.over_time_limit() {
            Err(OperationError::TimeLimit)
        } else {
            Ok(())
        }
    }

    /// The events numbered above `after`; the end is among them whatever its number.
    pub(crate) fn follow(&self, after: u64) -> impl Stream<Item = Result<Told, Fault>> + use<> {
        let follower = Follower {
            accepted: Some(self.accepted.clone()).filter(|_| after < ACCEPTED),
            created: self.created,
            last: after.max(ACCEPTED),
            quiet_until: None,
            heard: Some(Heard {
                progress: self.progress.subscribe(),
                end: self.ended.subscribe(),
            }),
        };
        stream::unfold(follower, |mut follower| async move {
            follower.next().await.map(|told| (told, follower))
        })
    }
}

/// One who watches; it does not keep the operation alive.
struct Follower {
    accepted: Option<Accepted>,
    created: i64,
    last: u64,
    /// The next progress is told after this.
    quiet_until: Option<Instant>,
    /// None after the last event.
    heard: Option<Heard>,
}

/// What one who watches listens to.
struct Heard {
    progress: watch::Receiver<Option<(u64, Progress)>>,
    end: watch::Receiver<Option<Arc<Ending>>>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Told, Fault>> {
        if let Some(accepted) = self.accepted.take() {
            return Some(Ok(Told::Accepted(ACCEPTED, accepted)));
        }
        let Heard { progress, end } = self.heard.as_mut()?;
        loop {
            let ending = end.borrow_and_update().clone();
            if let Some(ending) = ending {
                self.heard = None;
                return Some(Ok(ended(self.created, self.last, ending)));
            }
            let quiet = self.quiet_until.filter(|until| *until > Instant::now());
            let changed = match quiet {
                // Progress is not even listened to: nobody is woken for what is not told.
                Some(until) => match timeout_at(until, end.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => Ok(()),
                },
                None => {
                    let latest = progress.borrow_and_update().clone();
                    if let Some((number, latest)) = latest.filter(|(n, _)| *n > self.last) {
                        self.last = number;
                        self.quiet_until = Some(Instant::now() + PROGRESS_PAUSE);
                        return Some(Ok(Told::Progress(number, latest)));
                    }
                    tokio::select! {
                        biased;
                        changed = end.changed() => changed,
                        changed = progress.changed() => changed,
                    }
                }
            };
            // Both are gone at its end, and it may have ended since it was looked for.
            if changed.is_err() && end.borrow().is_none() {
                self.heard = None;
                return Some(Err(OperationError::Stopping.into()));
            }
        }
    }
}

/// The events of an operation that has ended.
pub(crate) fn told_of_ended(ending: Ending, after: u64) -> Vec<Told> {
    let created = time::from_timestamp(ending.operation.create_time);
    let accepted = accepted(&ending.operation);
    let accepted = Some(Told::Accepted(ACCEPTED, accepted)).filter(|_| after < ACCEPTED);
    let end = ended(created, after.max(ACCEPTED), Arc::new(ending));
    accepted.into_iter().chain([end]).collect()
}

fn accepted(operation: &Operation) -> Accepted {
    Accepted {
        operation_uuid: operation.uuid.clone(),
        resource_uuid: operation.resource_uuid.clone(),
    }
}

fn ended(created: i64, last: u64, ending: Arc<Ending>) -> Told {
    let at = time::from_timestamp(ending.operation.end_time);
    Told::Ended(age(created, at).max(last + 1), ending)
}

fn age(created: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(created)).unwrap_or(0)
}

/// The operations of this process that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<HashMap<OperationUuid, Arc<Live>>>);

impl Hub {
    pub(crate) fn get(&self, uuid: OperationUuid) -> Option<Arc<Live>> {
        self.map().get(&uuid).cloned()
    }

    /// The one that is known, or `live` from now on. A watcher may come before the run.
    pub(crate) fn join(&self, live: Live) -> Arc<Live> {
        let mut map = self.map();
        Arc::clone(map.entry(live.uuid).or_insert_with(|| Arc::new(live)))
    }

    pub(crate) fn remove(&self, uuid: OperationUuid) {
        self.map().remove(&uuid);
    }

    pub(crate) fn clear(&self) {
        self.map().clear();
    }

    /// No code that can panic runs under the lock, so a poisoned one is whole.
    fn map(&self) -> MutexGuard<'_, HashMap<OperationUuid, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
