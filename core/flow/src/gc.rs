//! Garbage collection: what a flow could not bring to its end is kept as a job, and tried again until
//! it succeeds.
//!
//! A job comes to be in the commit that ends its operation, when a rollback was given up or a step
//! past the point of no return was. It is the rest of that run and nothing else: an attempt at it runs
//! the operation's handler again, in the same queue, and its flow goes on where its log says. So an
//! attempt survives the process as any run does, and its effects carry the same ids. An operation with
//! a job is kept, with its log, until the job is done or given up.
//!
//! A job is due at a time that moves away with each failure, from 10 seconds to an hour, with jitter.
//! If it failed since something cannot be reached, it is also due when that is back: whoever finds
//! that out says so in the transaction in which it does ([`wake`]), so that no death comes in between.
//!
//! `cairn_gc_jobs` counts the jobs there are, `cairn_gc_oldest_job_seconds` tells the age of the oldest
//! one, 0 if there is none, and `cairn_gc_attempts_total{flow, outcome}` counts attempts.

mod job;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use cairn_boot::metrics::{Counters, Gauge};
use cairn_operation::Operations;
use cairn_proto::{fault::Fault, meta::Resource as _, operation::v1alpha1::GcJob};
use cairn_store::Store;
use cairn_types::OperationUuid;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use job::Leaving;
pub use job::{left_of, wake};

/// The table of the jobs: for `cairn_operation::Builder::leftovers`.
pub const TABLE: &str = "gc_job";

/// How many jobs are tried at once.
const AT_ONCE: usize = 16;

/// How often it is looked which jobs are due.
const LOOK: Duration = Duration::from_secs(1);

static JOBS: Gauge = Gauge::new("cairn_gc_jobs", "Jobs that are left.");
static OLDEST: Gauge = Gauge::new(
    "cairn_gc_oldest_job_seconds",
    "The age of the oldest job that is left; 0 if there is none.",
);
static ATTEMPTS: Counters<2> = Counters::new(
    "cairn_gc_attempts_total",
    "Attempts at jobs.",
    ["flow", "outcome"],
);

/// The pause before a job's first attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The collector of a node; clones share it.
#[derive(Clone)]
pub struct Gc {
    store: Store,
    operations: Operations,
    /// Jobs that are being tried.
    running: Arc<Mutex<HashSet<OperationUuid>>>,
    /// Told when an attempt has ended.
    ended: Arc<Notify>,
}

impl Gc {
    /// A collector of the jobs in `store`, whose operations are those.
    #[must_use]
    pub fn new(store: Store, operations: Operations) -> Self {
        Self {
            store,
            operations,
            running: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// Tries jobs when they are due, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.rounds()).await;
    }

    async fn rounds(&self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut attempts = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    let room = AT_ONCE.saturating_sub(attempts.len());
                    match self.due(room).await {
                        Ok(due) => attempts.extend(due.into_iter().map(|job| self.attempt_due(job))),
                        Err(fault) => warn!(error = fault.message, "look for jobs that are due"),
                    }
                }
                // What an attempt came to is in its job.
                Some(_) = attempts.next() => {}
            }
        }
    }

    /// Jobs that are due and not being tried, `most` of them.
    async fn due(&self, most: usize) -> Result<Vec<GcJob>, Fault> {
        let all = job::counted(&self.store).await?;
        JOBS.set(all.count);
        let age = |made: SystemTime| SystemTime::now().duration_since(made).unwrap_or_default();
        let oldest = all.oldest.map_or(0, |made| age(made).as_secs());
        OLDEST.set(i64::try_from(oldest).unwrap_or(i64::MAX));
        if all.count == 0 || most == 0 {
            return Ok(Vec::new());
        }
        let running = self.running().len();
        let mut due = job::due(&self.store, most + running).await?;
        due.retain(|job| operation_of(job).is_ok_and(|uuid| !self.running().contains(&uuid)));
        due.truncate(most);
        Ok(due)
    }

    /// Tries a job now, whether it is due or not; after the attempt that is under way, if one is.
    /// Returns the job as it was, now that it is done.
    ///
    /// # Errors
    /// `NotFound` if there is no such job; why the attempt failed, and then the job stays.
    pub async fn trigger(&self, uuid: &str) -> Result<GcJob, Fault> {
        let job = self.store.get::<GcJob>(uuid).await?;
        let job = job.ok_or_else(|| Fault::not_found(GcJob::NOUN, uuid))?;
        let operation = operation_of(&job)?;
        let trying = loop {
            // Before the look: an attempt that ends in between is heard of.
            let ended = self.ended.notified();
            match Trying::begin(self, operation) {
                Some(trying) => break trying,
                None => ended.await,
            }
        };
        // The attempt before may have done it.
        let Some(now) = self.store.get::<GcJob>(uuid).await? else {
            return Ok(job);
        };
        self.attempt(trying, now).await?;
        Ok(job)
    }

    /// An attempt at a job that is due, unless there is one.
    async fn attempt_due(&self, job: GcJob) {
        let trying = operation_of(&job).map(|operation| Trying::begin(self, operation));
        if let Ok(Some(trying)) = trying {
            // What it came to is in the job.
            let _ = self.attempt(trying, job).await;
        }
    }

    async fn attempt(&self, trying: Trying, job: GcJob) -> Result<(), Fault> {
        let uuid = trying.job;
        let done = self.operations.resume(uuid, job.attempts + 1).await;
        let outcome = if done.is_ok() { "ok" } else { "failed" };
        ATTEMPTS.add([&job.flow, outcome]);
        match &done {
            Ok(()) => info!(job = %uuid, flow = job.flow, "a job is done"),
            Err(fault) => {
                warn!(job = %uuid, flow = job.flow, error = fault.message, "a job failed again");
                let failed = job::failed(&self.store, &job, fault).await;
                if let Err(fault) = failed {
                    error!(job = %uuid, error = fault.message, "note that a job failed");
                }
            }
        }
        done
    }

    /// No code that can panic runs under the lock, so a poisoned one is whole.
    fn running(&self) -> MutexGuard<'_, HashSet<OperationUuid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is being tried, as long as it lives.
struct Trying {
    gc: Gc,
    job: OperationUuid,
}

impl Trying {
    /// None if it is being tried already.
    fn begin(gc: &Gc, job: OperationUuid) -> Option<Self> {
        let gc = gc.clone();
        let is_new = gc.running().insert(job);
        is_new.then(|| Self { gc, job })
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        self.gc.running().remove(&self.job);
        self.gc.ended.notify_waiters();
    }
}

fn operation_of(job: &GcJob) -> Result<OperationUuid, Fault> {
    let uuid = job.uuid.parse();
    uuid.map_err(|_| Fault::not_found("operation", &job.uuid))
}
