//! All queues of a process: each in one of some shards, each shard under a lock of its own.

use std::{array, collections::HashMap, fmt, hash::BuildHasherDefault, sync::Arc};

use cairn_types::OperationUuid;

use crate::{
    Entry, Level, QueueError, Signature, Ticket,
    calls::{Called, Calls},
    line::{Entered, Line, Wakers},
    signature::Hashed,
    sync::{Mutex, lock},
    ticket::Place,
    view::{QueueView, TaskView},
};

/// So many that threads rarely meet at one. Shuttle is to make them meet.
const SHARDS: usize = if cfg!(test) { 2 } else { 64 };

/// A shard that has grown beyond this gives its memory back.
const SMALL: usize = 16;

/// The queues of a process; clones share them.
#[derive(Clone)]
pub struct Queues(Arc<Inner>);

struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    /// Locked before a shard, never after one.
    calls: Mutex<Calls>,
}

/// Only queues that somebody is in.
#[derive(Default)]
struct Shard(HashMap<Signature, Line, BuildHasherDefault<Hashed>>);

impl Default for Queues {
    fn default() -> Self {
        Self(Arc::new(Inner {
            shards: array::from_fn(|_| Mutex::default()),
            calls: Mutex::default(),
        }))
    }
}

impl Queues {
    /// Takes a place in a queue, now: the order is that of these calls, among tasks of one
    /// priority and, where several run at once, of one account.
    ///
    /// # Errors
    /// [`QueueError::Full`] if as many wait as may, [`QueueError::Cycle`] if it would wait for
    /// what waits for it. It has no place then.
    pub fn enter(&self, entry: Entry) -> Result<Ticket, QueueError> {
        let mut wakers = Wakers::default();
        let entered = match entry.caller {
            None => self.shard(&entry.signature).enter(&entry, &mut wakers),
            Some(caller) => self.enter_called(&entry, caller, &mut wakers),
        };
        wakers.wake();
        let Entered { turn, waits } = entered?;
        let place = Place {
            queues: self.clone(),
            signature: entry.signature,
            operation: entry.operation,
            caller: entry.caller,
            turn,
        };
        Ok(Ticket::new(place, waits))
    }

    /// How many may run in a queue from now on: those who wait are let in as far as that goes,
    /// those who run are left alone. Where nobody is there is nothing to change: the next to
    /// enter says the level. One who waits, and could never start at a lower level, is refused
    /// with [`QueueError::Cycle`].
    pub fn set_level(&self, signature: &Signature, level: Level) {
        let mut wakers = Wakers::default();
        let calls = lock(&self.0.calls);
        self.shard(signature)
            .change(signature, |line| line.set_level(level, &mut wakers));
        let waiting = calls.all().filter(|called| called.signature == *signature);
        for called in waiting {
            self.break_cycles(&calls, called, &mut wakers);
        }
        drop(calls);
        wakers.wake();
    }

    /// Ends the tasks of an operation. One that waits is not started; of one that runs, what it
    /// runs is dropped if it is a future of [`Slot::run`](crate::Slot::run), and told otherwise.
    /// Returns how many there were. It looks through all queues: whoever has the ticket drops it
    /// for less.
    pub fn cancel(&self, operation: OperationUuid) -> usize {
        let mut wakers = Wakers::default();
        let mut cancelled = 0;
        for shard in &self.0.shards {
            for line in lock(shard).0.values_mut() {
                cancelled += line.cancel(operation, &mut wakers);
            }
        }
        wakers.wake();
        cancelled
    }

    /// The queues that somebody is in, by name, as each is at the moment of the look.
    #[must_use]
    pub fn list(&self) -> Vec<QueueView> {
        let mut list = Vec::new();
        for shard in &self.0.shards {
            list.extend(lock(shard).0.iter().map(|(signature, line)| QueueView {
                signature: signature.clone(),
                level: line.level(),
                running: line.running().map(TaskView::of).collect(),
                waiting: line.waiting().map(TaskView::of).collect(),
            }));
        }
        list.sort_by(|one, other| one.signature.cmp(&other.signature));
        list
    }

    /// The operations that run in the queue of `signature` now.
    #[must_use]
    pub fn holders(&self, signature: &Signature) -> Vec<OperationUuid> {
        let shard = self.shard(signature);
        shard.0.get(signature).map_or_else(Vec::new, Line::holders)
    }

    /// Whether nobody is in any queue.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.shards.iter().all(|shard| lock(shard).0.is_empty())
    }

    /// How many queues there is room for without more memory: little where little is going on.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| lock(shard).0.capacity()).sum()
    }

    /// Enters for an operation that another one waits for; so a circle may close.
    fn enter_called(
        &self,
        entry: &Entry,
        caller: OperationUuid,
        wakers: &mut Wakers,
    ) -> Result<Entered, QueueError> {
        // Held to the end: of two that close a circle together, the later one sees it.
        let mut calls = lock(&self.0.calls);
        let entered = self.shard(&entry.signature).enter(entry, wakers)?;
        let called = Called {
            operation: entry.operation,
            signature: entry.signature.clone(),
            turn: entered.turn,
        };
        calls.add(caller, called.clone());
        if !entered.waits {
            return Ok(entered);
        }
        match self.break_cycles(&calls, &called, wakers) {
            None => Ok(entered),
            Some(refused) => {
                calls.remove(caller, entry.operation, entered.turn);
                self.shard(&entry.signature)
                    .change(&entry.signature, |line| line.leave(entered.turn, wakers));
                Err(refused)
            }
        }
    }

    /// Refuses the youngest of each circle that `newest` is in. Returns why `newest` was refused,
    /// if that was it.
    fn break_cycles(
        &self,
        calls: &Calls,
        newest: &Called,
        wakers: &mut Wakers,
    ) -> Option<QueueError> {
        let look = |called: &Called| {
            let mut shard = self.shard(&called.signature);
            shard.0.get_mut(&called.signature)?.blockers(called.turn)
        };
        while let Some(found) = calls.cycle(newest, look) {
            let error = QueueError::Cycle(found.cycle);
            let Called {
                signature, turn, ..
            } = &found.youngest;
            self.shard(signature)
                .change(signature, |line| line.refuse(*turn, error.clone(), wakers));
            if found.youngest.turn == newest.turn && found.youngest.signature == newest.signature {
                return Some(error);
            }
        }
        None
    }

    /// Looks at, or changes, a queue that somebody is in.
    pub(crate) fn with<R>(
        &self,
        signature: &Signature,
        look: impl FnOnce(&mut Line) -> R,
    ) -> Option<R> {
        self.shard(signature).0.get_mut(signature).map(look)
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: &Place) {
        let mut wakers = Wakers::default();
        let calls = place.caller.map(|caller| {
            let mut calls = lock(&self.0.calls);
            calls.remove(caller, place.operation, place.turn);
            calls
        });
        self.shard(&place.signature)
            .change(&place.signature, |line| line.leave(place.turn, &mut wakers));
        drop(calls);
        wakers.wake();
    }

    fn shard(&self, signature: &Signature) -> crate::sync::MutexGuard<'_, Shard> {
        // The map itself uses the low and the highest bits.
        let index = (signature.hashed() >> 32) as usize % SHARDS;
        lock(&self.0.shards[index])
    }
}

impl Shard {
    fn enter(&mut self, entry: &Entry, wakers: &mut Wakers) -> Result<Entered, QueueError> {
        if let Some(line) = self.0.get_mut(&entry.signature) {
            return line.enter(entry, wakers);
        }
        let mut line = Line::new(entry.level);
        let entered = line.enter(entry, wakers)?;
        self.0.insert(entry.signature.clone(), line);
        Ok(entered)
    }

    /// Changes a queue, and forgets it if nobody is left in it.
    fn change(&mut self, signature: &Signature, change: impl FnOnce(&mut Line)) {
        let Some(line) = self.0.get_mut(signature) else {
            return;
        };
        change(line);
        if line.is_empty() {
            self.0.remove(signature);
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let (length, capacity) = (self.0.len(), self.0.capacity());
        if capacity <= SMALL {
            return;
        }
        if length == 0 {
            self.0 = HashMap::default();
        } else if length < capacity / 8 {
            self.0.shrink_to((length * 2).max(SMALL * 2));
        }
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
