//! What a queue is called, and how many may run in it at once.

use std::{
    cmp::Ordering,
    fmt,
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    num::NonZeroU32,
    sync::{Arc, LazyLock},
};

/// The keys of a process's hashes: names may come from anybody, and must not be made to collide.
static HASHING: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The name of a queue. It is made of the key that a call is routed by, so that all tasks of a
/// queue meet on one node.
#[derive(Clone)]
pub struct Signature {
    text: Arc<str>,
    /// Computed once, for it is asked for at each look.
    hash: u64,
}

impl Signature {
    /// The queue of one resource: its noun and its routing key, as in `vm-instance/<uuid>`.
    #[must_use]
    pub fn of(noun: &str, key: &str) -> Self {
        let mut text = String::with_capacity(noun.len() + 1 + key.len());
        text.push_str(noun);
        text.push('/');
        text.push_str(key);
        Self {
            hash: HASHING.hash_one(&*text),
            text: text.into(),
        }
    }

    /// As text: how it travels in a call's context.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn hashed(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for Signature {}

impl Hash for Signature {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for Signature {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Signature {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The hash of a [`Signature`] is a hash already.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How many tasks of a queue may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(u32);

impl Level {
    /// One at a time.
    pub const SERIAL: Self = Self(1);
    /// All that come.
    pub const UNLIMITED: Self = Self(0);

    /// So many at a time.
    #[must_use]
    pub const fn at_most(tasks: NonZeroU32) -> Self {
        Self(tasks.get())
    }

    /// How many at a time; 0 for all that come.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// How many may start beside so many others.
    pub(crate) fn free(self, running: usize) -> usize {
        match self.0 {
            0 => usize::MAX,
            level => (level as usize).saturating_sub(running),
        }
    }

    /// Whether accounts share it: more than one task, and not all.
    pub(crate) fn is_shared(self) -> bool {
        self.0 > 1
    }
}
