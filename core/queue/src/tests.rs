//! Against a model, action by action; and by many threads at once.

use std::{
    num::NonZeroU32,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Enter { queue: usize, level: u32 },
    EnterHeld { queue: usize },
    Leave { which: usize },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..2_usize, 0..4_u32).prop_map(|(queue, level)| Action::Enter { queue, level }),
        1 => (0..2_usize).prop_map(|queue| Action::EnterHeld { queue }),
        4 => any::<usize>().prop_map(|which| Action::Leave { which }),
    ]
}

/// What a queue should do, said as simply as possible: a list in order of arrival.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<(OperationUuid, u32, bool)>,
}

impl Model {
    fn admit(&mut self) {
        while let Some(first) = self.entries.iter().position(|(.., runs)| !runs) {
            let running = self.entries.iter().filter(|(.., runs)| *runs).count();
            let level = self.entries[first].1;
            if level != 0 && running >= level as usize {
                break;
            }
            self.entries[first].2 = true;
        }
    }

    fn ahead(&self, owner: OperationUuid) -> usize {
        let at = self.entries.iter().position(|(o, ..)| *o == owner).unwrap();
        if self.entries[at].2 {
            return 0;
        }
        let running = self.entries.iter().filter(|(.., runs)| *runs).count();
        let waiting = self.entries[..at].iter().filter(|(.., runs)| !runs).count();
        running + waiting
    }
}

enum Held {
    Waiting(Ticket),
    Running(#[expect(dead_code, reason = "held for its drop")] Slot),
}

fn level(number: u32) -> Level {
    NonZeroU32::new(number).map_or(Level::UNLIMITED, Level::at_most)
}

fn poll(ticket: &mut Ticket) -> Poll<Slot> {
    pin!(ticket).poll(&mut Context::from_waker(Waker::noop()))
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(actions in prop::collection::vec(action(), 1..80)) {
        let queues = Queues::default();
        let names = [Signature::of("vm", "a"), Signature::of("vm", "b")];
        let mut models = [Model::default(), Model::default()];
        let mut held: Vec<(usize, OperationUuid, Held)> = Vec::new();
        for action in actions {
            match action {
                Action::Enter { queue, level: number } => {
                    let owner = OperationUuid::generate();
                    let ticket = queues.enter(&names[queue], level(number), owner);
                    models[queue].entries.push((owner, number, false));
                    held.push((queue, owner, Held::Waiting(ticket)));
                }
                Action::EnterHeld { queue } => {
                    let owner = OperationUuid::generate();
                    let ticket = queues.enter_held(&names[queue], owner);
                    models[queue].entries.push((owner, 0, true));
                    held.push((queue, owner, Held::Waiting(ticket)));
                }
                Action::Leave { which } if !held.is_empty() => {
                    let (queue, owner, _) = held.remove(which % held.len());
                    models[queue].entries.retain(|(o, ..)| *o != owner);
                }
                Action::Leave { .. } => {}
            }
            models.iter_mut().for_each(Model::admit);
            for (queue, owner, state) in &mut held {
                let model = &models[*queue];
                if let Held::Waiting(ticket) = state {
                    prop_assert_eq!(ticket.ahead(), model.ahead(*owner));
                    if let Poll::Ready(slot) = poll(ticket) {
                        *state = Held::Running(slot);
                    }
                }
                let runs = model.entries.iter().any(|(o, _, runs)| o == owner && *runs);
                prop_assert_eq!(matches!(state, Held::Running(_)), runs);
            }
        }
        held.clear();
        prop_assert!(queues.lines().is_empty(), "idle queues hold memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_a_queue_never_overlap_beyond_its_level() {
    const TASKS: usize = 2000;
    let queues = Queues::default();
    let running: Arc<[AtomicUsize; 5]> = Arc::default();
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let limit = task % 5 + 1;
        let (queues, running, done) = (queues.clone(), running.clone(), done.clone());
        tasks.spawn(async move {
            let signature = Signature::of("host", &limit.to_string());
            let level = level(limit as u32);
            let ticket = queues.enter(&signature, level, OperationUuid::generate());
            if task % 7 == 0 {
                return; // leaves without having run
            }
            let slot = ticket.await;
            let now = running[limit - 1].fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= limit, "{now} run at level {limit}");
            for _ in 0..task % 4 {
                tokio::task::yield_now().await;
            }
            running[limit - 1].fetch_sub(1, Ordering::SeqCst);
            drop(slot);
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(
        done.load(Ordering::SeqCst),
        (0..TASKS).filter(|task| task % 7 != 0).count()
    );
    assert!(queues.lines().is_empty());
}

#[tokio::test]
async fn the_queue_is_free_when_the_holder_and_its_child_have_left() {
    let queues = Queues::default();
    let signature = Signature::of("vm", "a");
    let (parent, child) = (OperationUuid::generate(), OperationUuid::generate());
    let slot = queues.enter(&signature, Level::SERIAL, parent).await;
    let nested = queues.enter_held(&signature, child).await;
    let mut next = queues.enter(&signature, Level::SERIAL, OperationUuid::generate());
    assert_eq!(queues.holders(&signature), [parent, child]);
    drop(slot);
    assert!(poll(&mut next).is_pending());
    drop(nested);
    let _next = next.await;
}
