//! Single flight: who shares which run.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use cairn_queue::{Flights, QueueError};
use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio::sync::watch;

use crate::poll;

#[derive(Debug, Clone)]
enum Action {
    Ask { key: usize },
    Drop { which: usize },
    Finish { key: usize },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..3_usize).prop_map(|key| Action::Ask { key }),
        2 => any::<usize>().prop_map(|which| Action::Drop { which }),
        1 => (0..3_usize).prop_map(|key| Action::Finish { key }),
    ]
}

struct Caller {
    key: usize,
    /// The number of the run that it shares.
    run: u32,
    answer: BoxFuture<'static, Result<u32, QueueError>>,
}

proptest! {
    #[test]
    fn it_shares_what_the_model_shares(actions in prop::collection::vec(action(), 1..60)) {
        let flights: Flights<usize, u32> = Flights::default();
        let begun = Arc::new(AtomicU32::new(0));
        // A run ends when the count of its key has passed what it was at the start.
        let finished: [watch::Sender<u32>; 3] = Default::default();
        let mut callers: Vec<Caller> = Vec::new();
        let mut model: BTreeMap<usize, u32> = BTreeMap::new();
        let mut runs = 0;
        for action in actions {
            match action {
                Action::Ask { key } => {
                    let (flights, begun) = (flights.clone(), Arc::clone(&begun));
                    let mut finished = finished[key].subscribe();
                    let mut answer: BoxFuture<'static, _> = Box::pin(async move {
                        flights
                            .run(key, || {
                                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                                finished.borrow_and_update();
                                async move {
                                    let _ = finished.changed().await;
                                    number
                                }
                            })
                            .await
                    });
                    prop_assert!(poll(&mut answer).is_pending());
                    let run = *model.entry(key).or_insert_with(|| {
                        runs += 1;
                        runs
                    });
                    callers.push(Caller { key, run, answer });
                }
                Action::Drop { which } if !callers.is_empty() => {
                    let Caller { key, .. } = callers.remove(which % callers.len());
                    if callers.iter().all(|caller| caller.key != key) {
                        model.remove(&key);
                    }
                }
                Action::Drop { .. } => {}
                Action::Finish { key } => {
                    finished[key].send_modify(|count| *count += 1);
                    model.remove(&key);
                    for mut caller in std::mem::take(&mut callers) {
                        if caller.key != key {
                            prop_assert!(poll(&mut caller.answer).is_pending());
                            callers.push(caller);
                        } else {
                            prop_assert_eq!(poll(&mut caller.answer), Poll::Ready(Ok(caller.run)));
                        }
                    }
                }
            }
            prop_assert_eq!(begun.load(Ordering::SeqCst), runs);
            prop_assert_eq!(flights.under_way(), model.len());
        }
    }
}

#[tokio::test]
async fn a_panic_is_the_error_of_all() {
    let flights: Flights<u8, u8> = Flights::default();
    let run = || async { panic!("on purpose") };
    let (one, other) = tokio::join!(flights.run(1, run), flights.run(1, run));
    assert_eq!(one, Err(QueueError::Panicked("on purpose".into())));
    assert_eq!(one, other);
    assert_eq!(flights.run(1, || async { 7 }).await, Ok(7));
}
