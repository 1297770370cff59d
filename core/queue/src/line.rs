//! One queue: who holds it and who waits, in order. Pure state under the lock of `Queues`.

use std::{collections::VecDeque, task::Waker};

use cairn_types::OperationUuid;

use crate::Level;

#[derive(Debug, Default)]
pub(crate) struct Line {
    next: u64,
    holding: Vec<(u64, OperationUuid)>,
    /// In the order of their numbers.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    level: Level,
    owner: OperationUuid,
    /// None until its ticket is polled.
    waker: Option<Waker>,
}

impl Line {
    pub(crate) fn enter(&mut self, level: Level, owner: OperationUuid) -> u64 {
        if self.waiting.is_empty() && level.admits(self.holding.len()) {
            return self.hold(owner);
        }
        let number = self.number();
        self.waiting.push_back(Waiting {
            number,
            level,
            owner,
            waker: None,
        });
        number
    }

    pub(crate) fn hold(&mut self, owner: OperationUuid) -> u64 {
        let number = self.number();
        self.holding.push((number, owner));
        number
    }

    /// Whether that number waits still; then `waker` is woken when it no longer does.
    pub(crate) fn waits(&mut self, number: u64, waker: &Waker) -> bool {
        match self.position(number) {
            Ok(position) => {
                let slot = &mut self.waiting[position].waker;
                if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *slot = Some(waker.clone());
                }
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn ahead(&self, number: u64) -> usize {
        self.position(number)
            .map_or(0, |position| self.holding.len() + position)
    }

    /// Takes that number out, and lets those in who may start now: returns whom to wake.
    pub(crate) fn leave(&mut self, number: u64) -> Vec<Waker> {
        match self.position(number) {
            Ok(position) => drop(self.waiting.remove(position)),
            Err(_) => self.holding.retain(|(held, _)| *held != number),
        }
        let mut woken = Vec::new();
        while let Some(first) = self.waiting.front()
            && first.level.admits(self.holding.len())
            && let Some(first) = self.waiting.pop_front()
        {
            self.holding.push((first.number, first.owner));
            woken.extend(first.waker);
        }
        woken
    }

    pub(crate) fn holders(&self) -> Vec<OperationUuid> {
        self.holding.iter().map(|(_, owner)| *owner).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holding.is_empty() && self.waiting.is_empty()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn position(&self, number: u64) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
    }
}
