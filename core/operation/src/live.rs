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
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Ending, OperationError, row, time};

/// The number of the event `accepted`. Those after it are numbered by the microseconds since the
/// operation was made, so that they grow across a restart too.
const ACCEPTED: u64 = 1;

/// An operation that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) uuid: OperationUuid,
    accepted: Accepted,
    created: i64,
    deadline: Instant,
    pub(crate) cancel: CancellationToken,
    state: watch::Sender<State>,
    running: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    progress: Option<(u64, Progress)>,
    ended: Option<Arc<Ending>>,
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
            accepted: accepted(operation),
            created: time::from_timestamp(operation.create_time),
            deadline: time::instant(time::from_timestamp(operation.deadline)),
            cancel,
            state: watch::Sender::default(),
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
        self.state.send_modify(|state| {
            let last = state.progress.as_ref().map_or(ACCEPTED, |(n, _)| *n);
            let number = age(self.created, time::now()).max(last + 1);
            state.progress = Some((number, progress));
        });
    }

    pub(crate) fn end(&self, ending: Arc<Ending>) {
        self.state.send_modify(|state| state.ended = Some(ending));
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
            state: Some(self.state.subscribe()),
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
    /// None after the last event.
    state: Option<watch::Receiver<State>>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Told, Fault>> {
        if let Some(accepted) = self.accepted.take() {
            return Some(Ok(Told::Accepted(ACCEPTED, accepted)));
        }
        loop {
            let state = self.state.as_mut()?;
            let told = {
                let now = state.borrow_and_update();
                match (&now.ended, &now.progress) {
                    (Some(ending), _) => Some(ended(self.created, self.last, ending.clone())),
                    (None, Some((number, progress))) if *number > self.last => {
                        Some(Told::Progress(*number, progress.clone()))
                    }
                    _ => None,
                }
            };
            match told {
                Some(told) => {
                    match &told {
                        Told::Progress(number, _) => self.last = *number,
                        _ => self.state = None,
                    }
                    return Some(Ok(told));
                }
                None if state.changed().await.is_err() => {
                    self.state = None;
                    return Some(Err(OperationError::Stopping.into()));
                }
                None => {}
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
