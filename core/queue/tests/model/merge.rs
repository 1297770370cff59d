//! Merging: which requests are in which call.

use std::{
    sync::{Arc, Mutex},
    task::Poll,
};

use cairn_queue::{Entry, Level, Merge, QueueError, Queues, Signature, Slot, Ticket};
use cairn_types::OperationUuid;
use futures::future::BoxFuture;
use proptest::prelude::*;

use crate::poll;

#[derive(Debug, Clone)]
enum Action {
    Ask,
    Drop { which: usize },
    Block,
    Unblock,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Ask),
        1 => any::<usize>().prop_map(|which| Action::Drop { which }),
        2 => Just(Action::Block),
        2 => Just(Action::Unblock),
    ]
}

/// What is in the queue, in order: somebody else, or a batch of requests.
#[derive(Debug)]
enum Item {
    Blocker,
    Batch(Vec<u32>),
}

enum Blocker {
    Waits(Ticket),
    Runs(#[expect(dead_code, reason = "held for its drop")] Slot),
}

fn name() -> Signature {
    Signature::of("host", "h")
}

fn entry() -> Entry {
    Entry::new(name(), Level::SERIAL, OperationUuid::generate())
}

proptest! {
    #[test]
    fn it_merges_what_the_model_merges(actions in prop::collection::vec(action(), 1..60)) {
        let (queues, merge) = (Queues::default(), Merge::<u32, u32>::default());
        let calls: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let mut callers: Vec<(u32, BoxFuture<'static, Result<u32, QueueError>>)> = Vec::new();
        let mut blockers: Vec<Blocker> = Vec::new();
        let (mut model, mut expected): (Vec<Item>, Vec<Vec<u32>>) = Default::default();
        let mut number = 0;
        for action in actions {
            match action {
                Action::Ask => {
                    number += 1;
                    let (queues, merge, calls) = (queues.clone(), merge.clone(), Arc::clone(&calls));
                    let mut answer: BoxFuture<'static, _> = Box::pin(async move {
                        let call = move |asked: Vec<u32>| {
                            calls.lock().unwrap().push(asked.clone());
                            async move { asked.iter().map(|n| n * 2).collect() }
                        };
                        merge.ask(&queues, entry(), number, call).await
                    });
                    match model.iter_mut().find(|item| matches!(item, Item::Batch(_))) {
                        Some(Item::Batch(batch)) => batch.push(number),
                        _ => model.push(Item::Batch(vec![number])),
                    }
                    match poll(&mut answer) {
                        Poll::Ready(answer) => prop_assert_eq!(answer, Ok(number * 2)),
                        Poll::Pending => callers.push((number, answer)),
                    }
                }
                Action::Drop { which } if !callers.is_empty() => {
                    let (gone, _) = callers.remove(which % callers.len());
                    for item in &mut model {
                        if let Item::Batch(batch) = item {
                            batch.retain(|number| *number != gone);
                        }
                    }
                    model.retain(|item| !matches!(item, Item::Batch(batch) if batch.is_empty()));
                }
                Action::Drop { .. } => {}
                Action::Block => {
                    model.push(Item::Blocker);
                    blockers.push(Blocker::Waits(queues.enter(entry()).unwrap()));
                }
                Action::Unblock => {
                    if !blockers.is_empty() {
                        blockers.remove(0);
                        let first = model.iter().position(|item| matches!(item, Item::Blocker));
                        model.remove(first.unwrap());
                    }
                }
            }
            if let Some(Item::Batch(batch)) = model.first() {
                expected.push(batch.clone());
                model.remove(0);
            }
            for blocker in &mut blockers {
                if let Blocker::Waits(ticket) = blocker
                    && let Poll::Ready(slot) = poll(ticket)
                {
                    *blocker = Blocker::Runs(slot.unwrap());
                }
            }
            for (number, mut answer) in std::mem::take(&mut callers) {
                match poll(&mut answer) {
                    Poll::Ready(answer) => prop_assert_eq!(answer, Ok(number * 2)),
                    Poll::Pending => callers.push((number, answer)),
                }
            }
            prop_assert_eq!(&*calls.lock().unwrap(), &expected);
        }
        drop((callers, blockers));
        prop_assert!(queues.is_idle());
    }
}

#[tokio::test]
async fn a_call_that_fails_fails_for_all() {
    let (queues, merge) = (Queues::default(), Merge::<u32, u32>::default());
    let hold = async || queues.enter(entry()).unwrap().await.unwrap();
    let slot = hold().await;
    let panics = |_: Vec<u32>| async { panic!("on purpose") };
    let ask = || merge.ask(&queues, entry(), 1, panics);
    let (one, other, ()) = tokio::join!(ask(), ask(), async { drop(slot) });
    assert_eq!(one, Err(QueueError::Panicked("on purpose".into())));
    assert_eq!(one, other);
    let slot = hold().await;
    let short = |_: Vec<u32>| async { vec![1] };
    let ask = || merge.ask(&queues, entry(), 1, short);
    let (one, other, ()) = tokio::join!(ask(), ask(), async { drop(slot) });
    assert_eq!((one, other), (Ok(1), Err(QueueError::Unanswered(name()))));
    assert!(queues.is_idle());
}

#[tokio::test]
async fn a_batch_that_is_refused_is_refused_for_all() {
    let (queues, merge) = (Queues::default(), Merge::<u32, u32>::default());
    let slot = queues.enter(entry()).unwrap().await.unwrap();
    let operation = OperationUuid::generate();
    let first = Entry::new(name(), Level::SERIAL, operation);
    let call = |asked: Vec<u32>| async { asked };
    let cancel = async { assert_eq!(queues.cancel(operation), 1) };
    let (one, other, ()) = tokio::join!(
        merge.ask(&queues, first, 1, call),
        merge.ask(&queues, entry(), 2, call),
        cancel,
    );
    assert_eq!(one, Err(QueueError::Cancelled(operation)));
    assert_eq!(one, other);
    drop(slot);
    assert!(queues.is_idle());
}
