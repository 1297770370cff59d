//! What a task meets in a queue: its turn, a cancel, its time limit, a full queue, a circle.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use cairn_queue::{
    Completion, Entry, Level, Link, Priority, QueueError, Queues, Signature, Ticket,
};
use cairn_types::{Coded as _, ErrorCode, OperationUuid};
use futures::FutureExt as _;
use tokio::{task::JoinSet, time::Instant};

fn queue(name: &str) -> Signature {
    Signature::of("lane", name)
}

fn serial(name: &str) -> Entry {
    Entry::new(queue(name), Level::SERIAL, OperationUuid::generate())
}

fn waits(ticket: &mut Ticket) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    ticket.poll_unpin(&mut cx).is_pending()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_a_queue_never_overlap_beyond_its_level() {
    const TASKS: usize = 5_000;
    let queues = Queues::default();
    let running: Arc<[AtomicUsize; 5]> = Arc::default();
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let limit = task % 5 + 1;
        let (queues, running, done) = (queues.clone(), running.clone(), done.clone());
        tasks.spawn(async move {
            let level = Level::at_most(NonZeroU32::new(limit as u32).unwrap());
            let priority = [Priority::Low, Priority::Normal, Priority::High][task % 3];
            let operation = OperationUuid::generate();
            let entry = Entry::new(queue(&limit.to_string()), level, operation).priority(priority);
            let ticket = queues.enter(entry).unwrap();
            match task % 7 {
                0 => return, // leaves without having run
                // It may run already, and is told then.
                1 => assert_eq!(queues.cancel(operation), 1),
                _ => {}
            }
            let Ok(slot) = ticket.await else { return };
            let overlaps = async {
                let now = running[limit - 1].fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now <= limit, "{now} run at level {limit}");
                for _ in 0..task % 4 {
                    tokio::task::yield_now().await;
                }
                running[limit - 1].fetch_sub(1, Ordering::SeqCst);
            };
            overlaps.await;
            drop(slot);
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let neither = (0..TASKS).filter(|task| task % 7 > 1).count();
    assert!(done.load(Ordering::SeqCst) >= neither);
    assert!(queues.is_idle());
}

#[tokio::test]
async fn the_queue_is_free_when_the_holder_and_its_child_have_left() {
    let queues = Queues::default();
    let (parent, child) = (OperationUuid::generate(), OperationUuid::generate());
    let entry = Entry::new(queue("a"), Level::SERIAL, parent);
    let slot = queues.enter(entry).unwrap().await.unwrap();
    let nested = Entry::new(queue("a"), Level::SERIAL, child).called_by(parent, &["lane/a".into()]);
    let nested = queues.enter(nested).unwrap().await.unwrap();
    let mut next = queues.enter(serial("a")).unwrap();
    assert_eq!(queues.holders(&queue("a")), [parent, child]);
    drop(slot);
    assert!(waits(&mut next));
    drop(nested);
    let _next = next.await.unwrap();
}

#[tokio::test]
async fn a_task_that_says_its_end_keeps_the_queue_until_then() {
    let queues = Queues::default();
    let slot = queues.enter(serial("a")).unwrap().await.unwrap();
    let mut next = queues.enter(serial("a")).unwrap();
    let mut handle = None;
    let mut ended = Box::pin(slot.until_said(|task: Completion<u8>| handle = Some(task)));
    assert!(ended.as_mut().now_or_never().is_none());
    // Who waits for it may leave: the task goes on.
    drop(ended);
    assert!(waits(&mut next));
    handle.unwrap().end(1);
    let slot = next.await.unwrap();
    let operation = queues.holders(&queue("a"))[0];
    let unsaid = slot.until_said(drop::<Completion<u8>>).await.unwrap_err();
    assert_eq!(
        unsaid.to_string(),
        format!("the task of operation {operation} in queue lane/a went without saying its end")
    );
    assert_eq!(unsaid.code(), ErrorCode::Internal);
    assert!(queues.is_idle());
}

#[tokio::test]
async fn a_cancel_reaches_what_waits_and_what_runs() {
    let queues = Queues::default();
    let operation = OperationUuid::generate();
    let entry = |name| Entry::new(queue(name), Level::SERIAL, operation);
    let runs = queues.enter(entry("a")).unwrap().await.unwrap();
    let says = queues.enter(entry("b")).unwrap().await.unwrap();
    let waiting = queues.enter(entry("a")).unwrap();
    let other = queues.enter(serial("a")).unwrap();
    let dropped = Arc::new(());
    let seen = Arc::clone(&dropped);
    let run = runs.run(async move {
        let _seen = seen;
        std::future::pending::<()>().await;
    });
    let (hand_over, handed) = tokio::sync::oneshot::channel();
    let told = says.until_said(|task: Completion<u8>| drop(hand_over.send(task)));
    let cancel = async {
        assert_eq!(queues.cancel(operation), 3);
        assert_eq!(queues.cancel(operation), 0);
    };
    let (run, waited, ()) = tokio::join!(run, waiting, cancel);
    assert_eq!(run, Err(QueueError::Cancelled(operation)));
    assert_eq!(waited.unwrap_err(), QueueError::Cancelled(operation));
    assert_eq!(Arc::strong_count(&dropped), 1);
    let _other = other.await.unwrap();
    // It has a handle and ends when it likes.
    let end = async {
        let task = handed.await.unwrap();
        task.cancelled().await;
        task.end(3);
    };
    assert_eq!(tokio::join!(told, end).0, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_started() {
    let queues = Queues::default();
    let slot = queues.enter(serial("a")).unwrap().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let error = queues.enter(serial("a")).unwrap().before(deadline).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
    assert!(
        error.to_string().contains("waited in queue lane/a"),
        "{error}"
    );
    // Also if its turn and its end have come both.
    drop(slot);
    let late = queues.enter(serial("a")).unwrap().before(deadline).await;
    assert_eq!(late.unwrap_err().code(), ErrorCode::DeadlineExceeded);
    assert!(queues.is_idle());
}

#[tokio::test]
async fn a_full_queue_says_what_is_ahead() {
    let queues = Queues::default();
    let _slot = queues.enter(serial("a")).unwrap().await.unwrap();
    let _waits = queues.enter(serial("a").most_waiting(1)).unwrap();
    let full = queues.enter(serial("a").most_waiting(1)).unwrap_err();
    let running = queues.holders(&queue("a"))[0];
    assert_eq!(
        full.to_string(),
        format!(
            "queue lane/a is full: 1 wait in it, as many as may, behind operation {running}; try \
             again later"
        )
    );
    assert_eq!(full.code(), ErrorCode::Overloaded);
    assert!(full.retry_after().is_some());
    // Who would not wait is not refused, and neither is what ran before.
    let _other = queues.enter(serial("b").most_waiting(0)).unwrap();
    let mut resumed = queues.enter(serial("a").most_waiting(0).resumed()).unwrap();
    assert_eq!(resumed.ahead(), 1);
    assert!(waits(&mut resumed));
}

/// Two operations that have queues of their own and call each other's. Returns their children's
/// tickets, the earlier first.
fn closed_circle(
    queues: &Queues,
    level: Level,
) -> (
    [cairn_queue::Slot; 2],
    Ticket,
    Result<Ticket, QueueError>,
    [OperationUuid; 4],
) {
    let operations = [(); 4].map(|()| OperationUuid::generate());
    let [delete, start, stop, ask] = operations;
    let run = |name: &str, operation| {
        let entry = Entry::new(queue(name), level, operation);
        let ticket = queues.enter(entry).unwrap();
        ticket.now_or_never().unwrap().unwrap()
    };
    let slots = [run("host", delete), run("vm", start)];
    let entry = |name, child, parent, held: &str| {
        Entry::new(queue(name), level, child).called_by(parent, &[held.to_owned()])
    };
    let mut first = queues
        .enter(entry("vm", stop, delete, "lane/host"))
        .unwrap();
    assert!(waits(&mut first));
    let second = queues.enter(entry("host", ask, start, "lane/vm"));
    (slots, first, second, operations)
}

#[tokio::test]
async fn of_operations_that_wait_for_each_other_the_youngest_is_refused() {
    let queues = Queues::default();
    let (slots, stops, asks, [delete, start, stop, ask]) = closed_circle(&queues, Level::SERIAL);
    let Err(QueueError::Cycle(cycle)) = asks else {
        panic!("{asks:?}");
    };
    let link = |operation, queue| Link { operation, queue };
    let expected = [
        link(ask, Some(queue("host"))),
        link(delete, None),
        link(stop, Some(queue("vm"))),
        link(start, None),
    ];
    assert_eq!(cycle.links(), expected);
    let error = QueueError::Cycle(cycle);
    assert_eq!(
        error.to_string(),
        format!(
            "operations wait for each other: {ask} waits in queue lane/host for {delete}, {delete} \
             called {stop}, {stop} waits in queue lane/vm for {start}, {start} called {ask}; the \
             youngest of those in a queue is refused"
        )
    );
    assert_eq!(error.code(), ErrorCode::WaitCycle);
    // The caller of what was refused fails, and the other one goes on.
    let [deletes, starts] = slots;
    drop(starts);
    drop(stops.await.unwrap());
    drop(deletes);
    assert!(queues.is_idle());
}

#[tokio::test]
async fn where_another_one_may_end_nobody_is_refused() {
    let queues = Queues::default();
    let two = Level::at_most(NonZeroU32::new(2).unwrap());
    // Beside each of the two there is one that waits for nobody.
    let others = ["host", "vm"].map(|name| {
        let entry = Entry::new(queue(name), two, OperationUuid::generate());
        queues
            .enter(entry)
            .unwrap()
            .now_or_never()
            .unwrap()
            .unwrap()
    });
    let (_slots, mut stops, asks, _) = closed_circle(&queues, two);
    let mut asks = asks.unwrap();
    assert!(waits(&mut asks) && waits(&mut stops));
    // With a level of 1 the end of that one would not be enough.
    queues.set_level(&queue("host"), Level::SERIAL);
    assert!(
        waits(&mut asks),
        "the stop can go on where the other one of the VM ends"
    );
    queues.set_level(&queue("vm"), Level::SERIAL);
    assert!(matches!(asks.await, Err(QueueError::Cycle(_))));
    assert!(waits(&mut stops));
    drop(others);
}

#[tokio::test]
async fn an_operation_that_waits_for_its_own_caller_is_refused() {
    let queues = Queues::default();
    let parent = OperationUuid::generate();
    let _slot = queues
        .enter(Entry::new(queue("a"), Level::SERIAL, parent))
        .unwrap()
        .await
        .unwrap();
    // Its caller does not say that it holds the queue.
    let child = serial("a").called_by(parent, &[]);
    assert!(
        matches!(queues.enter(child), Err(QueueError::Cycle(cycle)) if cycle.links().len() == 2)
    );
    assert_eq!(queues.list()[0].waiting.len(), 0);
}

/// Random operations that call each other in random queues, as deep as they like: all end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_hangs_whatever_calls_whatever() {
    let queues = Queues::default();
    let mut tasks = JoinSet::new();
    let refused = Arc::new(AtomicUsize::new(0));
    for seed in 0..2_000_u64 {
        let (queues, refused) = (queues.clone(), refused.clone());
        tasks.spawn(async move {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut slots = Vec::new();
            let mut held: Vec<String> = Vec::new();
            let mut caller = None;
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let name = (random % 6).to_string();
                let operation = OperationUuid::generate();
                let mut entry = Entry::new(queue(&name), Level::SERIAL, operation);
                if let Some(caller) = caller {
                    entry = entry.called_by(caller, &held);
                }
                let entered = match queues.enter(entry) {
                    Ok(ticket) => ticket.await,
                    Err(error) => Err(error),
                };
                match entered {
                    Ok(slot) => slots.push(slot),
                    Err(QueueError::Cycle(_)) => {
                        refused.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
                held.push(format!("lane/{name}"));
                caller = Some(operation);
                tokio::task::yield_now().await;
            }
            // What was called ends first.
            while slots.pop().is_some() {}
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(refused.load(Ordering::SeqCst) > 0, "nothing met");
    assert!(queues.is_idle());
}
