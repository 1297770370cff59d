//! What enters a queue, and how it wants to.

use cairn_types::{AccountUuid, OperationUuid};

use crate::{Level, Signature};

/// Who of those that wait goes first. A queue in which those before never end lets nobody behind
/// them in, so what is not normal should be rare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After all others.
    Low,
    /// As a rule.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// A task on its way into a queue.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(crate) signature: Signature,
    pub(crate) level: Level,
    pub(crate) operation: OperationUuid,
    pub(crate) account: AccountUuid,
    pub(crate) priority: Priority,
    pub(crate) most_waiting: Option<usize>,
    pub(crate) caller: Option<OperationUuid>,
    pub(crate) held: bool,
    pub(crate) resumed: bool,
}

impl Entry {
    /// A task of `operation` in the queue of `signature`. The level is the queue's: the last one
    /// that was said holds for all who wait.
    #[must_use]
    pub fn new(signature: Signature, level: Level, operation: OperationUuid) -> Self {
        Self {
            signature,
            level,
            operation,
            account: AccountUuid::ADMIN,
            priority: Priority::Normal,
            most_waiting: None,
            caller: None,
            held: false,
            resumed: false,
        }
    }

    /// For whom. In a queue in which several run at once, accounts take turns.
    #[must_use]
    pub fn account(mut self, account: AccountUuid) -> Self {
        self.account = account;
        self
    }

    /// Before or after others.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// It is refused rather than waiting if so many wait already.
    #[must_use]
    pub fn most_waiting(mut self, tasks: usize) -> Self {
        self.most_waiting = Some(tasks);
        self
    }

    /// The operation was called by another one, which waits for it. `held` are the queues that
    /// the caller, and those who called it, run in: they are entered without waiting.
    #[must_use]
    pub fn called_by(mut self, caller: OperationUuid, held: &[String]) -> Self {
        self.caller = Some(caller);
        self.held = held.iter().any(|held| held == self.signature.as_str());
        self
    }

    /// It ran before its process was started again: it goes before all that wait, and is not
    /// refused.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resumed = true;
        self.most_waiting = None;
        self
    }
}
