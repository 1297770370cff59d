//! What a queue is called, and how many may run in it at once.

use std::{fmt, num::NonZeroU32, sync::Arc};

/// The name of a queue. It is made of the key that a call is routed by, so that all tasks of a
/// queue meet on one node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(Arc<str>);

impl Signature {
    /// The queue of one resource: its noun and its routing key, as in `vm-instance/<uuid>`.
    #[must_use]
    pub fn of(noun: &str, key: &str) -> Self {
        Self(format!("{noun}/{key}").into())
    }

    /// As text: how it travels in a call's context.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many tasks of a queue may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(u32);

impl Level {
    /// One at a time.
    pub const SERIAL: Self = Self(1);
    /// All that come; but in its turn, behind a serial task that waits.
    pub const UNLIMITED: Self = Self(0);

    /// So many at a time.
    #[must_use]
    pub fn at_most(tasks: NonZeroU32) -> Self {
        Self(tasks.get())
    }

    /// A task of this level may start beside so many others.
    pub(crate) fn admits(self, running: usize) -> bool {
        self.0 == 0 || running < self.0 as usize
    }
}
