//! Queues as they are shown.

use std::time::SystemTime;

use cairn_types::{AccountUuid, OperationUuid};

use crate::{Level, Priority, Signature, line::Task};

/// A queue at the moment of a look.
#[derive(Debug, Clone)]
pub struct QueueView {
    /// Its name.
    pub signature: Signature,
    /// How many may run at once.
    pub level: Level,
    /// What runs, in the order of the starts.
    pub running: Vec<TaskView>,
    /// What waits, in the order in which it would start.
    pub waiting: Vec<TaskView>,
}

/// A task at the moment of a look.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// Whose.
    pub operation: OperationUuid,
    /// For whom.
    pub account: AccountUuid,
    /// Before or after others.
    pub priority: Priority,
    /// Since when it waits; of one that runs, since when it does that.
    pub since: SystemTime,
}

impl TaskView {
    pub(crate) fn of(task: &Task) -> Self {
        let Task {
            operation,
            account,
            priority,
            since,
        } = *task;
        Self {
            operation,
            account,
            priority,
            since,
        }
    }
}
