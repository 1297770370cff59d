//! Caps: how much of something may be under way at once. What is past one is refused at once.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc, time::Duration};

use cairn_types::{Coded, ErrorCode};

use crate::sync::{Mutex, lock};

/// What one who was refused is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A cap for each key: an account, a host, or `()` for one that is for all; clones share it. A
/// key of which nothing is under way takes no memory.
pub struct Caps<K>(Arc<Inner<K>>);

struct Inner<K> {
    of: &'static str,
    size: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// As much is under way as may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{size} {of} are under way, as many as may be at once; try again in {} s",
    RETRY_AFTER.as_secs()
)]
pub struct Overloaded {
    /// What is capped: `calls of one account`.
    pub of: &'static str,
    /// How much of it may be under way.
    pub size: usize,
}

impl Coded for Overloaded {
    fn code(&self) -> ErrorCode {
        ErrorCode::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(RETRY_AFTER)
    }
}

impl<K: Hash + Eq + Clone> Caps<K> {
    /// So many `of` may be under way for each key; the name is for the error.
    #[must_use]
    pub fn new(of: &'static str, size: usize) -> Self {
        Self(Arc::new(Inner {
            of,
            size,
            taken: Mutex::default(),
        }))
    }

    /// Counts one more, until what is returned is dropped.
    ///
    /// # Errors
    /// [`Overloaded`] if that would be too many.
    pub fn take(&self, key: K) -> Result<Permit<K>, Overloaded> {
        let mut taken = lock(&self.0.taken);
        let count = taken.get(&key).copied().unwrap_or(0);
        if count >= self.0.size {
            let Inner { of, size, .. } = *self.0;
            return Err(Overloaded { of, size });
        }
        taken.insert(key.clone(), count + 1);
        drop(taken);
        Ok(Permit {
            caps: self.clone(),
            key,
        })
    }
}

/// One that is counted as long as it lives.
#[must_use = "it is counted as long as it lives"]
pub struct Permit<K: Hash + Eq> {
    caps: Caps<K>,
    key: K,
}

impl<K: Hash + Eq> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.caps.0.taken);
        match taken.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.key)),
        }
    }
}

impl<K> Clone for Caps<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Caps<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { of, size, .. } = *self.0;
        f.debug_struct("Caps")
            .field("of", &of)
            .field("size", &size)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.caps, f)
    }
}
