//! What a node knows of the runs on hosts: how far it has heard of them, and of which it has committed
//! the outcome.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cairn_agent_protocol::Moment;
use cairn_types::{HostUuid, TaskUuid};

/// A task that failed is tried again soon or not at all; of one that is not remembered any more, a
/// repeat may be given the outcome of the run before.
const MOST_COMMITTED: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    moments: HashMap<HostUuid, Moment>,
    committed: HashMap<Key, Moment>,
    /// The keys of `committed`, the oldest first.
    order: VecDeque<Key>,
}

type Key = (HostUuid, TaskUuid);

impl Seen {
    /// Notes what a host's agent said. Of two answers of one process the later moment counts, in
    /// whatever order they come; of another process, the last word.
    pub(crate) fn heard(&self, host: HostUuid, moment: Moment) {
        let mut inner = self.lock();
        let known = inner.moments.entry(host).or_insert(moment);
        if !known.knows(moment) {
            *known = moment;
        }
    }

    /// The last moment of a host that was heard.
    pub(crate) fn moment(&self, host: HostUuid) -> Option<Moment> {
        self.lock().moments.get(&host).copied()
    }

    /// Notes that the outcome of a run is committed.
    pub(crate) fn commit(&self, host: HostUuid, task: TaskUuid, began: Moment) {
        let mut inner = self.lock();
        if inner.committed.insert((host, task), began).is_none() {
            inner.order.push_back((host, task));
            if inner.order.len() > MOST_COMMITTED
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.committed.remove(&oldest);
            }
        }
    }

    /// The last run of a task whose outcome was committed, if that was not long ago.
    pub(crate) fn committed(&self, host: HostUuid, task: TaskUuid) -> Option<Moment> {
        self.lock().committed.get(&(host, task)).copied()
    }

    /// Forgets how far a host's runs are known.
    pub(crate) fn forget(&self, host: HostUuid) {
        self.lock().moments.remove(&host);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Uuid;

    use super::*;

    #[test]
    fn the_latest_moment_of_the_present_process_counts() {
        let (seen, host) = (Seen::default(), HostUuid::generate());
        let at = |incarnation, count| Moment {
            incarnation: Uuid::from_u128(incarnation),
            count,
        };
        assert_eq!(seen.moment(host), None);
        for (said, counts) in [((1, 3), (1, 3)), ((1, 2), (1, 3)), ((2, 0), (2, 0))] {
            seen.heard(host, at(said.0, said.1));
            assert_eq!(seen.moment(host), Some(at(counts.0, counts.1)));
        }
        seen.forget(host);
        assert_eq!(seen.moment(host), None);
    }

    #[test]
    fn what_was_committed_is_remembered_within_a_bound() {
        let (seen, host) = (Seen::default(), HostUuid::generate());
        let run = |count| Moment {
            incarnation: Uuid::nil(),
            count,
        };
        let first = TaskUuid::generate();
        seen.commit(host, first, run(1));
        seen.commit(host, first, run(2));
        assert_eq!(seen.committed(host, first), Some(run(2)));
        assert_eq!(seen.committed(HostUuid::generate(), first), None);
        for count in 0..MOST_COMMITTED as u64 {
            assert!(seen.committed(host, first).is_some());
            seen.commit(host, TaskUuid::generate(), run(count));
        }
        assert_eq!(seen.committed(host, first), None);
        let inner = seen.lock();
        assert_eq!(inner.committed.len(), MOST_COMMITTED);
        assert_eq!(inner.order.len(), MOST_COMMITTED);
    }
}
