//! How often a call that was cut is tried again.

use std::time::Duration;

use tokio::time::Instant;

const MOST: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A call that lasted this long had a good connection; its cut begins a new count.
const HEALTHY: Duration = Duration::from_secs(30);

/// Counts the tries of one call.
pub(super) struct Retries {
    tries: u32,
    began: Instant,
}

impl Retries {
    pub(super) fn new() -> Self {
        Self {
            tries: 0,
            began: Instant::now(),
        }
    }

    /// After a cut: pauses and says true if the call is to be tried again.
    pub(super) async fn again(&mut self) -> bool {
        if self.began.elapsed() >= HEALTHY {
            self.tries = 0;
        }
        if self.tries == MOST {
            return false;
        }
        let pause = FIRST_PAUSE * 2_u32.pow(self.tries);
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        self.tries += 1;
        self.began = Instant::now();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded_unless_the_connection_was_good() {
        let mut retries = Retries::new();
        for _ in 0..MOST {
            assert!(retries.again().await);
        }
        assert!(!retries.again().await);
        tokio::time::advance(HEALTHY).await;
        assert!(retries.again().await);
    }
}
