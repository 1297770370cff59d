//! Turns: what is done to one virtual machine is done one after another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::lock;
use cairn_types::Uuid;

/// Who has a turn, and who waits for one.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<Uuid, Weak<Turn<()>>>>);

impl Turns {
    /// Waits for the turn, which ends when what this gives is dropped.
    pub(super) async fn take(&self, vm: Uuid) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.0);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&vm).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(vm, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_waits_for_the_other() {
        let (turns, vm) = (Turns::default(), Uuid::from_u128(7));
        let first = turns.take(vm).await;
        assert!(turns.take(vm).now_or_never().is_none());
        assert!(turns.take(Uuid::from_u128(8)).now_or_never().is_some());
        drop(first);
        assert!(turns.take(vm).now_or_never().is_some());
        assert!(turns.take(vm).now_or_never().is_some());
        assert_eq!(lock(&turns.0).len(), 1);
    }
}
