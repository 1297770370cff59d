//! Times as the database keeps them: whole microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use tokio::time::Instant;

/// Microseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    micros(since)
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // The remainder is below 1,000,000.
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

pub(crate) fn from_timestamp(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |t| {
        t.seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(t.nanos) / 1_000)
    })
}

/// The moment of the monotonic clock that is now as far away as `micros` is.
pub(crate) fn instant(micros: i64) -> Instant {
    // A century is as good as never, and no clock overflows on it.
    const NEVER: u64 = 100 * 365 * 86_400 * 1_000_000;
    let left = u64::try_from(micros.saturating_sub(now())).unwrap_or(0);
    Instant::now() + Duration::from_micros(left.min(NEVER))
}
