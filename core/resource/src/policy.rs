//! What becomes of what is deleted: at once, after a time, or never.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::now;

/// What a delete does to what lies behind a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// It is gone at once.
    #[default]
    Direct,
    /// It can be recovered, until it was deleted for that long.
    Delay(Duration),
    /// It can be recovered, and is kept for good. Only a cascade removes it, with what it needs.
    Never,
}

impl DeletionPolicy {
    /// Whether a delete keeps what lies behind.
    #[must_use]
    pub fn keeps(self) -> bool {
        self != Self::Direct
    }

    /// Has `expunge` called in rounds, without end, with the time in microseconds since 1970 up to
    /// which what was deleted is due. Where nothing is ever due, it is not called.
    pub async fn in_rounds<F>(self, interval: Duration, mut expunge: impl FnMut(i64) -> F)
    where
        F: Future<Output = ()>,
    {
        let Self::Delay(kept) = self else {
            return std::future::pending().await;
        };
        let kept = i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
        let mut rounds = tokio::time::interval(interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let due = now().seconds.saturating_sub(kept);
            expunge(due.saturating_mul(1_000_000)).await;
        }
    }
}
