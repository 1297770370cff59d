//! The lock of this crate: the standard library's, and in its unit tests shuttle's, which decides
//! itself who goes on and so runs through the schedules.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Locks. No code that can panic runs under a lock of this crate, so a poisoned one is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
