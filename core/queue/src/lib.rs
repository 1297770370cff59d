//! Work queues: tasks of one signature run in order, a bounded number at a time.
//!
//! A place is taken at once, in the order of the calls to [`Queues::enter`]; to wait for it is to
//! await the [`Ticket`]. Nothing polls and no thread waits: whoever leaves wakes the next. A
//! signature that nobody waits for or holds takes no memory.
//!
//! ```
//! use cairn_queue::{Level, Queues, Signature};
//! use cairn_types::OperationUuid;
//!
//! # async fn example(vm: &str) {
//! let queues = Queues::default();
//! let slot = queues.enter(&Signature::of("vm-instance", vm), Level::SERIAL, OperationUuid::generate()).await;
//! // Here no other task of this VM runs.
//! drop(slot);
//! # }
//! ```

mod line;
mod signature;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use cairn_types::OperationUuid;

use line::Line;
pub use signature::{Level, Signature};

/// The queues of a process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Queues(Arc<Mutex<HashMap<Signature, Line>>>);

impl Queues {
    /// Takes the last place in the queue of `signature`. The task may start when it is the first
    /// that waits and fewer than `level` hold the queue.
    pub fn enter(&self, signature: &Signature, level: Level, owner: OperationUuid) -> Ticket {
        self.place(signature, |line| line.enter(level, owner))
    }

    /// Enters on behalf of an operation that holds the queue: without waiting. The queue is free
    /// again when both have left, whichever leaves first.
    pub fn enter_held(&self, signature: &Signature, owner: OperationUuid) -> Ticket {
        self.place(signature, |line| line.hold(owner))
    }

    /// The operations that hold the queue of `signature` now.
    #[must_use]
    pub fn holders(&self, signature: &Signature) -> Vec<OperationUuid> {
        self.lines()
            .get(signature)
            .map_or_else(Vec::new, Line::holders)
    }

    fn place(&self, signature: &Signature, take: impl FnOnce(&mut Line) -> u64) -> Ticket {
        let number = take(self.lines().entry(signature.clone()).or_default());
        Ticket(Some(Place {
            queues: self.clone(),
            signature: signature.clone(),
            number,
        }))
    }

    /// No code that can panic runs under the lock, so a poisoned one is whole.
    fn lines(&self) -> MutexGuard<'_, HashMap<Signature, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue. Await it to get the [`Slot`]; drop it to leave.
#[derive(Debug)]
#[must_use = "a ticket that is dropped leaves the queue"]
pub struct Ticket(Option<Place>);

impl Ticket {
    /// How many hold the queue or wait in it before this one; 0 when it may start.
    #[must_use]
    pub fn ahead(&self) -> usize {
        let Some(place) = &self.0 else { return 0 };
        let lines = place.queues.lines();
        lines
            .get(&place.signature)
            .map_or(0, |line| line.ahead(place.number))
    }
}

impl Future for Ticket {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        if let Some(place) = &self.0 {
            let mut lines = place.queues.lines();
            let line = lines.get_mut(&place.signature);
            if line.is_some_and(|line| line.waits(place.number, cx.waker())) {
                return Poll::Pending;
            }
        }
        Poll::Ready(Slot(self.0.take()))
    }
}

/// The right to run; dropping it gives it to the next.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given to the next"]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] Option<Place>);

/// One number in one line, waiting or holding; it leaves when it is dropped.
#[derive(Debug)]
struct Place {
    queues: Queues,
    signature: Signature,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queues.lines();
        let Some(line) = lines.get_mut(&self.signature) else {
            return;
        };
        let woken = line.leave(self.number);
        if line.is_empty() {
            lines.remove(&self.signature);
        }
        // A waker may run code of its own, which may want the lock.
        drop(lines);
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
