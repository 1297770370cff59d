//! Single flight: who asks for what is under way already gets the result of that.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::{
    QueueError,
    sync::{Mutex, lock},
};

type Run<T> = BoxFuture<'static, Result<T, QueueError>>;
/// Each with its number. The map keeps no run alive: those who wait for it do.
type UnderWay<K, T> = HashMap<K, (u64, WeakShared<Run<T>>)>;

/// Runs by key, each shared by all who ask for it while it is under way; clones share them. A
/// run goes on as long as somebody waits for it, whoever began it.
pub struct Flights<K, T>(Arc<Inner<K, T>>);

struct Inner<K, T> {
    under_way: Mutex<UnderWay<K, T>>,
    number: AtomicU64,
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The result of the run of that key: of the one that is under way, or of one that `begin`
    /// makes.
    ///
    /// # Errors
    /// [`QueueError::Panicked`] if it did.
    pub async fn run<F>(&self, key: K, begin: impl FnOnce() -> F) -> Result<T, QueueError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.join(key, begin).await
    }

    /// Not across an await: the lock must not be held there.
    fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Shared<Run<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let known = lock(&self.0.under_way)
            .get(&key)
            .map(|(_, run)| run.clone());
        if let Some(run) = known.and_then(|run| run.upgrade()) {
            return run;
        }
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            flights: Arc::clone(&self.0),
            key: key.clone(),
            number,
        };
        let run = AssertUnwindSafe(begin()).catch_unwind();
        let run: Run<T> = Box::pin(async move {
            let outcome = run.await;
            drop(landing);
            outcome.map_err(|panic| QueueError::Panicked(words(&*panic)))
        });
        let run = run.shared();
        let mut under_way = lock(&self.0.under_way);
        // Another one may have begun meanwhile; then this one is not begun.
        let other = under_way.get(&key).and_then(|(_, other)| other.upgrade());
        if let Some(other) = other {
            drop(under_way);
            return other;
        }
        if let Some(weak) = run.downgrade() {
            under_way.insert(key, (number, weak));
        }
        drop(under_way);
        run
    }

    /// How many are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        lock(&self.0.under_way).len()
    }
}

/// Forgets a run when it has ended, or when nobody waits for it any more.
struct Landing<K: Hash + Eq, T> {
    flights: Arc<Inner<K, T>>,
    key: K,
    number: u64,
}

impl<K: Hash + Eq, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.flights.under_way);
        let is_known = under_way.get(&self.key);
        if is_known.is_some_and(|(number, _)| *number == self.number) {
            under_way.remove(&self.key);
            let (length, capacity) = (under_way.len(), under_way.capacity());
            if length < capacity / 8 {
                under_way.shrink_to(length * 2);
            }
        }
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            under_way: Mutex::default(),
            number: AtomicU64::new(0),
        }))
    }
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights")
            .field(&lock(&self.0.under_way).len())
            .finish()
    }
}
