//! Whose turn it is where accounts share a queue: start-time fair queueing. Each task has a tag,
//! one more than that of the account's last, but not less than the clock; the clock is the tag of
//! the last one that started. Who has waited for nothing yet is so never behind the whole backlog
//! of another, and does not get ahead by having been away.

use std::collections::HashMap;

use cairn_types::AccountUuid;

/// How many accounts are remembered before those without a claim are forgotten.
const MANY: usize = 64;

/// The accounts of one queue and one class of its tasks.
#[derive(Debug, Default)]
pub(super) struct Shares {
    clock: u64,
    /// The highest tag that was given.
    last: u64,
    /// The tag of each account's next task, if that is above the clock.
    next: HashMap<AccountUuid, u64>,
}

impl Shares {
    /// The tag of a task of `account`.
    pub(super) fn tag(&mut self, account: AccountUuid) -> u64 {
        let clock = self.clock;
        if self.next.len() >= MANY {
            self.next.retain(|_, next| *next > clock);
        }
        let next = self.next.entry(account).or_insert(clock);
        let tag = (*next).max(clock);
        *next = tag + 1;
        self.last = self.last.max(tag);
        tag
    }

    /// A task with that tag starts.
    pub(super) fn starts(&mut self, tag: u64) {
        self.clock = self.clock.max(tag);
    }

    /// The tag of one who does not take part: behind all who came before.
    pub(super) fn behind(&self) -> u64 {
        self.last.max(self.clock)
    }
}
