//! The book of a host's tasks and fencing tokens: what a command that arrives is.
//!
//! A task is in the book from its arrival until its outcome was acknowledged. What comes for a task
//! that is not in it may be a duplicate that took long on its way: only who has heard of all that began
//! and was forgotten of the resource begins something.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use cairn_agent_protocol::{CommandHead, Moment, OutcomeReport};
use cairn_types::{TaskUuid, Uuid};

/// A resource's turn and its token.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Who holds it runs; inside, the token that is on disk.
    pub(crate) turn: Arc<tokio::sync::Mutex<u64>>,
    highest: AtomicU64,
    /// The book's count when something of the resource last began or was forgotten.
    changed: AtomicU64,
}

impl Lane {
    fn new(token: u64) -> Arc<Self> {
        Arc::new(Self {
            turn: Arc::new(tokio::sync::Mutex::new(token)),
            highest: AtomicU64::new(token),
            changed: AtomicU64::new(0),
        })
    }

    /// The highest token that came for the resource.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::SeqCst)
    }
}

/// A task in the book; shared by the book and what runs the task.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Which run of the task it is.
    pub(crate) began: Moment,
    pub(crate) lane: Arc<Lane>,
    /// A repeat with a higher token raises it: the task goes on for the new owner.
    token: AtomicU64,
    callbacks: Mutex<Vec<String>>,
    /// How often the command came.
    arrivals: AtomicU64,
    /// Notified when the command came again: then the outcome is reported at once.
    pub(crate) came_again: Notify,
    /// Notified when it is heard otherwise than by an answer that the outcome is committed.
    pub(crate) committed: Notify,
}

impl Entry {
    fn new(began: Moment, lane: Arc<Lane>, token: u64, callbacks: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            began,
            lane,
            token: AtomicU64::new(token),
            callbacks: Mutex::new(callbacks),
            arrivals: AtomicU64::new(1),
            came_again: Notify::new(),
            committed: Notify::new(),
        })
    }

    pub(crate) fn token(&self) -> u64 {
        self.token.load(Ordering::SeqCst)
    }

    /// How often the command came so far; see [`Book::forget`].
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    /// Where the last one who sent the command wants its outcome.
    pub(crate) fn callbacks(&self) -> Vec<String> {
        lock(&self.callbacks).clone()
    }
}

/// What a command that arrives is.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A new run. What is kept of the run of the task that it comes after, if there is one, must be
    /// gone first.
    New {
        entry: Arc<Entry>,
        after: Option<Moment>,
    },
    /// A task that runs or has ended; the latter's outcome is being reported again.
    Repeat,
    /// From an owner that was replaced.
    Stale { highest: u64 },
    /// From who does not know of all that happened to its resource.
    Unaware,
}

#[derive(Debug)]
pub(crate) struct Book {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    now: Moment,
    tasks: HashMap<TaskUuid, Arc<Entry>>,
    /// Never shrinks: a token must outlive the resource, or a late command would be admitted.
    lanes: HashMap<Uuid, Arc<Lane>>,
}

impl Book {
    pub(crate) fn new(incarnation: Uuid, tokens: Vec<(Uuid, u64)>) -> Self {
        let lanes = tokens
            .into_iter()
            .map(|(uuid, token)| (uuid, Lane::new(token)))
            .collect();
        Self {
            inner: Mutex::new(Inner {
                now: Moment::start(incarnation),
                tasks: HashMap::new(),
                lanes,
            }),
        }
    }

    /// Enters a task that ended before a restart.
    pub(crate) fn enter_kept(
        &self,
        report: &OutcomeReport,
        resource: Uuid,
        callbacks: Vec<String>,
    ) -> Arc<Entry> {
        let mut inner = lock(&self.inner);
        let entry = Entry::new(report.began, inner.lane(resource), 0, callbacks);
        inner.tasks.insert(report.task, entry.clone());
        entry
    }

    pub(crate) fn now(&self) -> Moment {
        lock(&self.inner).now
    }

    /// What a command is, and the moment after it was taken in.
    pub(crate) fn admit(&self, head: &CommandHead) -> (Admission, Moment) {
        let mut inner = lock(&self.inner);
        let admission = inner.admit(head);
        (admission, inner.now)
    }

    /// Forgets a task whose report was taken, unless its command came again after the report
    /// left: the one who sent it waits for a report of its own. `reported` is the number of
    /// arrivals before the report left. Returns whether there is nothing left to report.
    pub(crate) fn forget(&self, task: TaskUuid, entry: &Arc<Entry>, reported: u64) -> bool {
        let mut inner = lock(&self.inner);
        let known = inner.tasks.get(&task);
        // Another run of the task may have its place: it began because this one is committed.
        if known.is_some_and(|known| Arc::ptr_eq(known, entry)) {
            if entry.arrivals() > reported {
                return false;
            }
            inner.tasks.remove(&task);
            inner.changed(&entry.lane);
        }
        true
    }
}

impl Inner {
    fn lane(&mut self, resource: Uuid) -> Arc<Lane> {
        let lane = self.lanes.entry(resource);
        lane.or_insert_with(|| Lane::new(0)).clone()
    }

    fn changed(&mut self, lane: &Lane) {
        self.now.count += 1;
        lane.changed.store(self.now.count, Ordering::SeqCst);
    }

    fn admit(&mut self, head: &CommandHead) -> Admission {
        let lane = self.lane(head.resource);
        // The lock on the book is held: nobody else raises the token in between.
        let highest = lane.highest();
        if head.token < highest {
            return Admission::Stale { highest };
        }
        let known = self.tasks.get(&head.task);
        let committed = known.filter(|entry| head.after == Some(entry.began));
        if let (Some(entry), None) = (known, committed) {
            lane.highest.store(head.token, Ordering::SeqCst);
            entry.token.fetch_max(head.token, Ordering::SeqCst);
            lock(&entry.callbacks).clone_from(&head.callbacks);
            entry.arrivals.fetch_add(1, Ordering::SeqCst);
            entry.came_again.notify_one();
            return Admission::Repeat;
        }
        let last = Moment {
            count: lane.changed.load(Ordering::SeqCst),
            ..self.now
        };
        if !head.seen.is_some_and(|seen| seen.knows(last)) {
            return Admission::Unaware;
        }
        let after = committed.map(|entry| {
            entry.committed.notify_one();
            entry.began
        });
        lane.highest.store(head.token, Ordering::SeqCst);
        self.changed(&lane);
        let entry = Entry::new(self.now, lane, head.token, head.callbacks.clone());
        self.tasks.insert(head.task, entry.clone());
        Admission::New { entry, after }
    }
}

/// No code panics while it holds one of these locks; if one did, the data would still be whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_agent_protocol::Outcome;
    use cairn_types::{HostUuid, OperationUuid};

    use super::*;

    const AGENT: Uuid = Uuid::from_u128(9);

    fn at(count: u64) -> Moment {
        Moment {
            incarnation: AGENT,
            count,
        }
    }

    /// From who knows of that much.
    fn head(task: TaskUuid, resource: u128, token: u64, seen: u64) -> CommandHead {
        CommandHead {
            task,
            operation: OperationUuid::generate(),
            resource: Uuid::from_u128(resource),
            token,
            timeout: Duration::from_secs(1),
            callbacks: vec![format!("https://{token}")],
            seen: Some(at(seen)),
            after: None,
            traceparent: None,
        }
    }

    fn new(book: &Book, head: &CommandHead) -> Arc<Entry> {
        let (admission, now) = book.admit(head);
        let Admission::New { entry, .. } = admission else {
            panic!("{admission:?}")
        };
        assert_eq!(entry.began, now);
        entry
    }

    #[test]
    fn a_task_is_new_once_until_it_is_forgotten() {
        let book = Book::new(AGENT, Vec::new());
        let task = TaskUuid::generate();
        let entry = new(&book, &head(task, 1, 5, 0));
        assert!(matches!(
            book.admit(&head(task, 1, 6, 0)),
            (Admission::Repeat, now) if now == at(1)
        ));
        assert_eq!(entry.token(), 6);
        assert_eq!(entry.callbacks(), ["https://6"]);
        assert!(
            !book.forget(task, &entry, 1),
            "it came again while its report was under way"
        );
        assert!(book.forget(task, &entry, 2));
        // It was sent while the task was known, and comes now.
        assert!(matches!(
            book.admit(&head(task, 1, 6, 1)),
            (Admission::Unaware, now) if now == at(2)
        ));
        new(&book, &head(task, 1, 6, 2));
    }

    #[test]
    fn who_does_not_know_what_happened_to_the_resource_begins_nothing() {
        let book = Book::new(AGENT, vec![(Uuid::from_u128(1), 5)]);
        let (task, other) = (TaskUuid::generate(), TaskUuid::generate());
        let entry = new(&book, &head(task, 1, 5, 0));
        // It may have been sent before the run of the other task, and overtaken.
        assert!(matches!(
            book.admit(&head(other, 1, 5, 0)),
            (Admission::Unaware, now) if now == at(1)
        ));
        new(&book, &head(TaskUuid::generate(), 2, 5, 0));
        new(&book, &head(other, 1, 5, 2));
        assert!(book.forget(task, &entry, 1));
        for seen in [None, Some(at(3)), Some(Moment::start(Uuid::from_u128(8)))] {
            let late = CommandHead {
                seen,
                token: 6,
                ..head(task, 1, 6, 0)
            };
            assert!(
                matches!(book.admit(&late).0, Admission::Unaware),
                "{seen:?}"
            );
        }
        // Who was refused has changed nothing: the token is as it was.
        new(&book, &head(task, 1, 5, 4));
    }

    #[test]
    fn who_has_committed_a_run_gets_one_of_its_own() {
        let book = Book::new(AGENT, Vec::new());
        let task = TaskUuid::generate();
        let report = OutcomeReport {
            task,
            operation: OperationUuid::generate(),
            host: HostUuid::generate(),
            began: at(0),
            outcome: Outcome::Ok(serde_json::Value::Null),
        };
        let first = book.enter_kept(&report, Uuid::from_u128(1), Vec::new());
        let retry = CommandHead {
            after: Some(at(0)),
            ..head(task, 1, 5, 0)
        };
        let (Admission::New { entry, after, .. }, _) = book.admit(&retry) else {
            panic!()
        };
        assert_eq!(after, Some(at(0)));
        assert!(matches!(book.admit(&retry).0, Admission::Repeat));
        // The end of the first one's report does not take the place of the second.
        assert!(book.forget(task, &first, 1));
        assert!(matches!(book.admit(&retry).0, Admission::Repeat));
        assert!(book.forget(task, &entry, 3));
    }

    #[test]
    fn a_lower_token_is_stale_for_its_resource_even_for_a_known_task() {
        let book = Book::new(AGENT, vec![(Uuid::from_u128(1), 5)]);
        let task = TaskUuid::generate();
        assert!(matches!(
            book.admit(&head(task, 1, 4, 0)).0,
            Admission::Stale { highest: 5 }
        ));
        new(&book, &head(task, 2, 4, 0));
        new(&book, &head(TaskUuid::generate(), 2, 7, 1));
        assert!(matches!(
            book.admit(&head(task, 2, 4, 2)).0,
            Admission::Stale { highest: 7 }
        ));
    }
}
