//! How a step is tried: its time limit, its repeats, its share of the progress.

use std::time::Duration;

/// How failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often it is tried before it is given up; at least once. A rollback, or a step past the
    /// point of no return, is then left to a job.
    pub attempts: u32,
    /// The first pause; each is twice the one before.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self::times(5)
    }
}

impl Retry {
    /// So many attempts, with the pauses that fit most: from 200 milliseconds up to 10 seconds.
    #[must_use]
    pub const fn times(attempts: u32) -> Self {
        Self {
            attempts,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(10),
        }
    }

    /// The pause after so many failures.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let pause = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        pause.min(self.longest)
    }
}

/// What a step says of how it is tried; where a flow says something else of it, that holds.
///
/// ```
/// use std::time::Duration;
///
/// use cairn_flow::{Options, Retry};
///
/// let download = Options::default()
///     .timeout(Duration::from_secs(600))
///     .retry(Retry::times(3))
///     .weight(20);
/// assert_eq!(download.weight, 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long one attempt may take, in either direction. Past it the attempt is dropped, and
    /// has failed. None: as long as the step itself takes.
    pub timeout: Option<Duration>,
    /// How often its run is tried before the flow turns back. Once, unless it says otherwise. How
    /// often a rollback is tried, the flow says.
    pub retry: Retry,
    /// It has something to undo. Of one that has not, nothing is announced, run or told when the
    /// flow goes back.
    pub rollback: bool,
    /// Its share of the progress, relative to those of the other steps; 0 for none.
    pub weight: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: None,
            retry: Retry::times(1),
            rollback: true,
            weight: 1,
        }
    }
}

impl Options {
    /// The same with a time limit for each attempt.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same with more attempts at its run.
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same for a step that leaves nothing to undo.
    #[must_use]
    pub const fn no_rollback(mut self) -> Self {
        self.rollback = false;
        self
    }

    /// The same with another share of the progress.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}
