//! The book of a host's tasks and fencing tokens: what a command that arrives is.
//!
//! A task is in the book from its arrival until its outcome was acknowledged.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use cairn_agent_protocol::CommandHead;
use cairn_types::{TaskUuid, Uuid};

/// A resource's turn and its token.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Who holds it runs; inside, the token that is on disk.
    pub(crate) turn: Arc<tokio::sync::Mutex<u64>>,
    highest: AtomicU64,
}

impl Lane {
    fn new(token: u64) -> Arc<Self> {
        Arc::new(Self {
            turn: Arc::new(tokio::sync::Mutex::new(token)),
            highest: AtomicU64::new(token),
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
    /// A repeat with a higher token raises it: the task goes on for the new owner.
    token: AtomicU64,
    callbacks: Mutex<Vec<String>>,
    /// How often the command came.
    arrivals: AtomicU64,
    /// Notified when the command came again: then the outcome is reported at once.
    pub(crate) came_again: Notify,
}

impl Entry {
    fn new(token: u64, callbacks: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            token: AtomicU64::new(token),
            callbacks: Mutex::new(callbacks),
            arrivals: AtomicU64::new(1),
            came_again: Notify::new(),
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
    /// A new task, to be run in its lane.
    New(Arc<Entry>, Arc<Lane>),
    /// A task that runs or has ended; the latter's outcome is being reported again.
    Repeat,
    /// From an owner that was replaced.
    Stale { highest: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: HashMap<TaskUuid, Arc<Entry>>,
    /// Never shrinks: a token must outlive the resource, or a late command would be admitted.
    lanes: HashMap<Uuid, Arc<Lane>>,
}

impl Book {
    pub(crate) fn with_tokens(tokens: Vec<(Uuid, u64)>) -> Self {
        let lanes = tokens
            .into_iter()
            .map(|(uuid, token)| (uuid, Lane::new(token)))
            .collect();
        Self {
            inner: Mutex::new(Inner {
                tasks: HashMap::new(),
                lanes,
            }),
        }
    }

    /// Enters a task that ended before a restart.
    pub(crate) fn enter_kept(&self, task: TaskUuid, callbacks: Vec<String>) -> Arc<Entry> {
        let entry = Entry::new(0, callbacks);
        lock(&self.inner).tasks.insert(task, entry.clone());
        entry
    }

    pub(crate) fn admit(&self, head: &CommandHead) -> Admission {
        let mut inner = lock(&self.inner);
        let lane = inner
            .lanes
            .entry(head.resource)
            .or_insert_with(|| Lane::new(0))
            .clone();
        // The lock on the book is held: nobody else raises the token in between.
        let highest = lane.highest();
        if head.token < highest {
            return Admission::Stale { highest };
        }
        lane.highest.store(head.token, Ordering::SeqCst);
        if let Some(entry) = inner.tasks.get(&head.task) {
            entry.token.fetch_max(head.token, Ordering::SeqCst);
            lock(&entry.callbacks).clone_from(&head.callbacks);
            entry.arrivals.fetch_add(1, Ordering::SeqCst);
            entry.came_again.notify_one();
            return Admission::Repeat;
        }
        let entry = Entry::new(head.token, head.callbacks.clone());
        inner.tasks.insert(head.task, entry.clone());
        Admission::New(entry, lane)
    }

    /// Forgets a task whose report was taken, unless its command came again after the report
    /// left: the one who sent it waits for a report of its own. `reported` is the number of
    /// arrivals before the report left.
    pub(crate) fn forget(&self, task: TaskUuid, reported: u64) -> bool {
        let mut inner = lock(&self.inner);
        let came_again = inner
            .tasks
            .get(&task)
            .is_some_and(|entry| entry.arrivals() > reported);
        if !came_again {
            inner.tasks.remove(&task);
        }
        !came_again
    }
}

/// No code panics while it holds one of these locks; if one did, the data would still be whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_types::OperationUuid;

    use super::*;

    fn head(task: TaskUuid, resource: u128, token: u64) -> CommandHead {
        CommandHead {
            task,
            operation: OperationUuid::generate(),
            resource: Uuid::from_u128(resource),
            token,
            timeout: Duration::from_secs(1),
            callbacks: vec![format!("https://{token}")],
            traceparent: None,
        }
    }

    #[test]
    fn a_task_is_new_once_until_it_is_forgotten() {
        let book = Book::default();
        let task = TaskUuid::generate();
        let Admission::New(entry, _) = book.admit(&head(task, 1, 5)) else {
            panic!()
        };
        assert!(matches!(book.admit(&head(task, 1, 6)), Admission::Repeat));
        assert_eq!(entry.token(), 6);
        assert_eq!(entry.callbacks(), ["https://6"]);
        assert!(
            !book.forget(task, 1),
            "it came again while its report was under way"
        );
        assert!(book.forget(task, 2));
        assert!(matches!(book.admit(&head(task, 1, 6)), Admission::New(..)));
    }

    #[test]
    fn a_lower_token_is_stale_for_its_resource_even_for_a_known_task() {
        let book = Book::with_tokens(vec![(Uuid::from_u128(1), 5)]);
        let task = TaskUuid::generate();
        assert!(matches!(
            book.admit(&head(task, 1, 4)),
            Admission::Stale { highest: 5 }
        ));
        assert!(matches!(book.admit(&head(task, 2, 4)), Admission::New(..)));
        assert!(matches!(
            book.admit(&head(TaskUuid::generate(), 2, 7)),
            Admission::New(..)
        ));
        assert!(matches!(
            book.admit(&head(task, 2, 4)),
            Admission::Stale { highest: 7 }
        ));
    }
}
