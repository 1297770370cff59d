//! The calls that wait for a callback, and the answer that the callback waits for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use cairn_agent_protocol::Outcome;
use cairn_types::{HostUuid, TaskUuid};

type Key = (HostUuid, TaskUuid);

/// An outcome on its way to the call that waits for it.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) outcome: Outcome,
    pub(crate) ack: Ack,
}

/// The right to tell the agent that its outcome was noted for good. Dropped unsaid, the agent
/// keeps the outcome and reports it again.
#[derive(Debug)]
#[must_use = "the agent keeps its outcome until it hears that it was committed"]
pub struct Ack {
    answer: oneshot::Sender<()>,
}

impl Ack {
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer }, answered)
    }

    /// What the outcome means is committed: the agent may forget it.
    pub fn committed(self) {
        // If the callback has gone away, the agent reports again and hears it then.
        let _ = self.answer.send(());
    }
}

#[derive(Debug)]
struct Waiting {
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
    pub(crate) fn wait(&self, host: HostUuid, task: TaskUuid) -> Place<'_> {
        let (sender, outcome) = oneshot::channel();
        let send_again = Arc::new(Notify::new());
        let waiting = Waiting {
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
        match self.lock().remove(&(host, task)) {
            Some(waiting) => waiting.outcome.send(arrived).is_ok(),
            None => false,
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
    use super::*;

    fn arrived() -> (Arrived, oneshot::Receiver<()>) {
        let (ack, answered) = Ack::new();
        (
            Arrived {
                outcome: Outcome::Ok(serde_json::Value::Null),
                ack,
            },
            answered,
        )
    }

    #[test]
    fn a_place_is_given_up_by_its_holder_only() {
        let pending = Pending::default();
        let (host, task) = (HostUuid::generate(), TaskUuid::generate());
        let mut first = pending.wait(host, task);
        let mut second = pending.wait(host, task);
        assert!(first.outcome.try_recv().is_err());
        drop(first);
        assert!(
            !pending.deliver(HostUuid::generate(), task, arrived().0),
            "another host's"
        );
        assert!(pending.deliver(host, task, arrived().0));
        second.outcome.try_recv().unwrap().ack.committed();
        drop(second);
        assert!(pending.lock().is_empty());
        assert!(!pending.deliver(host, task, arrived().0));
    }

    #[test]
    fn an_outcome_that_nobody_committed_is_not_acknowledged() {
        let pending = Pending::default();
        let (host, task) = (HostUuid::generate(), TaskUuid::generate());
        let place = pending.wait(host, task);
        let (arrived, mut answered) = arrived();
        assert!(pending.deliver(host, task, arrived));
        drop(place);
        assert_eq!(
            answered.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }
}
