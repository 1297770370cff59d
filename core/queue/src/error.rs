//! Why a task is not started, or ends without its result.

use std::{fmt, time::Duration};

use cairn_types::{Coded, ErrorCode, OperationUuid};

use crate::Signature;

/// What one who was refused for want of room is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a task was not started, or did not end in its result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// As many wait as may.
    #[error(
        "queue {signature} is full: {waiting} wait in it, as many as may, behind {}; try again \
         later",
        Running(.running)
    )]
    Full {
        /// Which queue.
        signature: Signature,
        /// The operations that run in it.
        running: Vec<OperationUuid>,
        /// How many wait.
        waiting: usize,
    },
    /// It would wait for what waits for it.
    #[error("operations wait for each other: {0}; the youngest of those in a queue is refused")]
    Cycle(Cycle),
    /// It was cancelled, before it started or while it ran.
    #[error("the task of operation {0} was cancelled")]
    Cancelled(OperationUuid),
    /// Its time was over before its turn came: it was not started.
    #[error("operation {operation} ran out of time while it waited in queue {signature}")]
    TimeLimit {
        /// Which queue.
        signature: Signature,
        /// Whose task.
        operation: OperationUuid,
    },
    /// It let its completion handle go without a word.
    #[error("the task of operation {operation} in queue {signature} went without saying its end")]
    Unsaid {
        /// Which queue.
        signature: Signature,
        /// Whose task.
        operation: OperationUuid,
    },
    /// The run that is shared panicked.
    #[error("the run panicked: {0}")]
    Panicked(String),
    /// The call that answers for many left this one out.
    #[error("the call for many in queue {0} has no answer to this one")]
    Unanswered(Signature),
}

impl Coded for QueueError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Full { .. } => ErrorCode::Overloaded,
            Self::Cycle(_) => ErrorCode::WaitCycle,
            Self::Cancelled(_) => ErrorCode::Cancelled,
            Self::TimeLimit { .. } => ErrorCode::DeadlineExceeded,
            Self::Unsaid { .. } | Self::Panicked(_) | Self::Unanswered(_) => ErrorCode::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Full { .. }).then_some(RETRY_AFTER)
    }
}

/// The operations that run in a queue, the first by name.
struct Running<'a>(&'a [OperationUuid]);

impl fmt::Display for Running<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nobody"),
            [one] => write!(f, "operation {one}"),
            [one, others @ ..] => write!(f, "operation {one} and {} more", others.len()),
        }
    }
}

/// Operations that wait for each other, each for the one after it and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub(crate) Vec<Link>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which operation.
    pub operation: OperationUuid,
    /// The queue that it waits in, behind the next one; none if it called the next one and waits
    /// for its end.
    pub queue: Option<Signature>,
}

impl Cycle {
    /// Each of them, in order.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.0
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, link) in self.0.iter().enumerate() {
            let next = &self.0[(i + 1) % self.0.len()].operation;
            let Link { operation, queue } = link;
            let separator = if i == 0 { "" } else { ", " };
            match queue {
                Some(queue) => {
                    write!(
                        f,
                        "{separator}{operation} waits in queue {queue} for {next}"
                    )?;
                }
                None => write!(f, "{separator}{operation} called {next}")?,
            }
        }
        Ok(())
    }
}
