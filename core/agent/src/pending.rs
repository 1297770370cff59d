//! The calls that wait for a callback, and the answer that the callback waits for.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::seen::Seen;
use cairn_agent_protocol::{Moment, Outcome};
use cairn_types::{HostUuid, TaskUuid};

type Key = (HostUuid, TaskUuid);

/// An outcome on its way to the call that waits for it.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Of this run of the task.
    pub(crate) began: Moment,
    pub(crate) outcome: Outcome,
    pub(crate) ack: Ack,
}

/// The right to tell the agent that its outcome was noted for good. Dropped unsaid, the agent
/// keeps the outcome and reports it again.
#[derive(Debug)]
#[must_use = "the agent keeps its outcome until it hears that it was committed"]
pub struct Ack {
    answer: oneshot::Sender<()>,
    seen: Arc<Seen>,
    key: Key,
    began: Moment,
}

impl Ack {
    pub(crate) fn new(
        seen: Arc<Seen>,
        host: HostUuid,
        task: TaskUuid,
        began: Moment,
    ) -> (Self, oneshot::Receiver<()>) {
        let (answer, answered) = oneshot::channel();
        let ack = Self {
            answer,
            seen,
            key: (host, task),
            began,
        };
        (ack, answered)
    }

    /// What the outcome means is committed: the agent may forget it.
    pub fn committed(self) {
        let (host, task) = self.key;
        self.seen.commit(host, task, self.began);
        // If the callback has gone away, the agent reports again and hears it then.
        let _ = self.answer.send(());
    }
}

#[derive(Debug)]
struct Waiting {
    /// The run that it was called after: its outcome is of no use.
    after: Option<Moment>,
    outcome: oneshot::Sender<Arrived>,
    send_again: Arc<Notify>,
}

/// All calls that wait.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: Mutex<HashMap<Key, Waiting>>,
}

/// One call's place among those that wait; given up when dropped.
pub(crate) struct Place<'a> {
    pending: &'a Pending,
    key: Key,
    pub(crate) outcome: oneshot::Receiver<Arrived>,
    /// Notified when the command must be sent again.
    pub(crate) send_again: Arc<Notify>,
}

impl Pending {
    /// Takes a task's place. A call that had it ends: its channel closes.
    pub(crate) fn wait(&self, host: HostUuid, task: TaskUuid, after: Option<Moment>) -> Place<'_> {
        let (sender, outcome) = oneshot::channel();
        let send_again = Arc::new(Notify::new());
        let waiting = Waiting {
            after,
            outcome: sender,
            send_again: send_again.clone(),
        };
        self.lock().insert((host, task), waiting);
        Place {
            pending: self,
            key: (host, task),
            outcome,
            send_again,
        }
    }

    /// Gives an outcome to the call that waits for it; `false` if none does.
    pub(crate) fn deliver(&self, host: HostUuid, task: TaskUuid, arrived: Arrived) -> bool {
        let mut waiting = self.lock();
        match waiting.entry((host, task)) {
            Entry::Occupied(place) if place.get().after != Some(arrived.began) => {
                place.remove().outcome.send(arrived).is_ok()
            }
            _ => false,
        }
    }

    /// Has every task of a host sent again.
    pub(crate) fn send_again(&self, host: HostUuid) {
        for (_, waiting) in self.lock().iter().filter(|((of, _), _)| *of == host) {
            waiting.send_again.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.pending.lock();
        // Another call may have taken the place: then it is not ours to give up.
        if waiting
            .get(&self.key)
            .is_some_and(|w| Arc::ptr_eq(&w.send_again, &self.send_again))
        {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Uuid;

    use super::*;

    fn run(count: u64) -> Moment {
        Moment {
            incarnation: Uuid::nil(),
            count,
        }
    }

    fn arrived(host: HostUuid, task: TaskUuid, count: u64) -> (Arrived, oneshot::Receiver<()>) {
        let began = run(count);
        let (ack, answered) = Ack::new(Arc::default(), host, task, began);
        let outcome = Outcome::Ok(serde_json::Value::Null);
        let arrived = Arrived {
            began,
            outcome,
            ack,
        };
        (arrived, answered)
    }

    #[test]
    fn a_place_is_given_up_by_its_holder_only() {
        let pending = Pending::default();
        let (host, task) = (HostUuid::generate(), TaskUuid::generate());
        let mut first = pending.wait(host, task, None);
        let mut second = pending.wait(host, task, None);
        assert!(first.outcome.try_recv().is_err());
        drop(first);
        let other = HostUuid::generate();
        assert!(
            !pending.deliver(other, task, arrived(other, task, 1).0),
            "another host's"
        );
        assert!(pending.deliver(host, task, arrived(host, task, 1).0));
        second.outcome.try_recv().unwrap().ack.committed();
        drop(second);
        assert!(pending.lock().is_empty());
        assert!(!pending.deliver(host, task, arrived(host, task, 1).0));
    }

    #[test]
    fn the_outcome_of_the_run_before_is_not_the_one_that_is_waited_for() {
        let pending = Pending::default();
        let (host, task) = (HostUuid::generate(), TaskUuid::generate());
        let mut place = pending.wait(host, task, Some(run(1)));
        assert!(!pending.deliver(host, task, arrived(host, task, 1).0));
        assert!(pending.deliver(host, task, arrived(host, task, 2).0));
        assert_eq!(place.outcome.try_recv().unwrap().began, run(2));
    }

    #[test]
    fn an_outcome_that_nobody_committed_is_not_acknowledged() {
        let pending = Pending::default();
        let (host, task) = (HostUuid::generate(), TaskUuid::generate());
        let place = pending.wait(host, task, None);
        let (arrived, mut answered) = arrived(host, task, 1);
        assert!(pending.deliver(host, task, arrived));
        drop(place);
        assert_eq!(
            answered.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }
}
