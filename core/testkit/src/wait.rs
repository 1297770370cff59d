//! Waiting for a state. The one place where a test spends time on purpose.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// The pause between two looks grows from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Looks until `check` gives a value.
///
/// # Panics
/// With the description, if it does not within `limit`.
pub async fn wait_for<T>(
    description: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
    limit: Duration,
) -> T {
    let mut pauses = Pauses::new(limit);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(pauses.next().await, "{description}: not within {limit:?}");
    }
}

/// Looks until `read` gives a value that is `right`, and returns it.
///
/// # Panics
/// With the description and the value that was seen last, if there is none within `limit`.
pub async fn wait_until<T: Debug>(
    description: &str,
    mut read: impl AsyncFnMut() -> T,
    right: impl Fn(&T) -> bool,
    limit: Duration,
) -> T {
    let mut pauses = Pauses::new(limit);
    loop {
        let value = read().await;
        if right(&value) {
            return value;
        }
        assert!(
            pauses.next().await,
            "{description}: not within {limit:?}; seen last: {value:?}"
        );
    }
}

struct Pauses {
    end: Instant,
    next: Duration,
}

impl Pauses {
    fn new(limit: Duration) -> Self {
        Self {
            end: Instant::now() + limit,
            next: PAUSES.0,
        }
    }

    /// Pauses, or says that the time is over.
    async fn next(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(PAUSES.1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_what_it_waited_for() {
        let mut looks = 0;
        let seen = wait_for(
            "the third look",
            async || {
                looks += 1;
                (looks == 3).then_some("here")
            },
            Duration::from_secs(10),
        );
        assert_eq!(seen.await, "here");
    }

    #[tokio::test]
    #[should_panic(expected = "a seven: not within 0ns; seen last: 6")]
    async fn it_tells_what_it_saw_last() {
        wait_until("a seven", async || 6, |n| *n == 7, Duration::ZERO).await;
    }
}
