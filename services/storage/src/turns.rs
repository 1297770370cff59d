//! Turns: what must not happen at once to one file is done one after the other, in this process, by
//! whoever holds the file's turn. Each has something that is kept from one turn to the next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// The turns of files, by a text that tells each from the others.
#[derive(Default)]
pub(crate) struct Turns<T>(Mutex<HashMap<String, Arc<tokio::sync::Mutex<T>>>>);

impl<T: Default> Turns<T> {
    /// Waits until nobody else has the turn of that file.
    pub(crate) async fn turn(&self, file: &str) -> OwnedMutexGuard<T> {
        let turn = Arc::clone(self.lock().entry(file.to_owned()).or_default());
        turn.lock_owned().await
    }

    /// Forgets what is kept of files that nobody has or waits for, unless it is still wanted.
    pub(crate) fn tidy(&self, is_wanted: impl Fn(&T) -> bool) {
        self.lock().retain(|_, turn| {
            // Whoever waits for its turn holds it too.
            let alone = Arc::strong_count(turn) == 1;
            let idle = turn.try_lock().is_ok_and(|kept| !is_wanted(&kept));
            !(alone && idle)
        });
    }

    /// How many have the turn of that file, or wait for it.
    #[cfg(test)]
    pub(crate) fn queued(&self, file: &str) -> usize {
        // The map's own apart.
        let turn = self.lock().get(file).map(Arc::strong_count);
        turn.unwrap_or(1) - 1
    }

    /// Nobody panics while holding it; if someone did, the map would still be whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_what_is_kept_goes_with_the_last() {
        let turns = Turns::<u32>::default();
        let mut first = turns.turn("a").await;
        assert!(turns.turn("b").now_or_never().is_some(), "another file");
        assert!(turns.turn("a").now_or_never().is_none(), "the same file");
        *first = 7;
        turns.tidy(|_| false);
        drop(first);
        assert_eq!(*turns.turn("a").await, 7, "it was somebody's");
        turns.tidy(|kept| *kept == 7);
        assert_eq!(*turns.turn("a").await, 7, "it was wanted");
        turns.tidy(|_| false);
        assert_eq!(*turns.turn("a").await, 0);
    }
}
