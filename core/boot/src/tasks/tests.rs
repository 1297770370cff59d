//! What each policy does with an error and a panic, and what shutdown promises.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
#[error("renew the lease")]
struct Renew(#[source] io::Error);

#[tokio::test]
async fn a_failure_that_stops_the_process_keeps_its_reason() {
    let tasks = Tasks::new();
    tasks.start("renew", OnFailure::StopProcess, |_| async {
        Err(Renew(io::Error::other("disk is gone")))
    });
    tasks.stopping().cancelled().await;
    let failed = TaskFailed {
        task: "renew".into(),
        reason: "renew the lease: disk is gone".into(),
    };
    assert_eq!(tasks.failed(), Some(&failed));
    assert_eq!(tasks.shutdown(LONG).await, Ok(()));
}

#[tokio::test]
async fn a_panic_is_a_failure_in_its_words() {
    let tasks = Tasks::new();
    tasks.start("count", OnFailure::StopProcess, |_| async {
        assert_eq!(1 + 1, 3, "sums");
        Ok::<(), Infallible>(())
    });
    tasks.stopping().cancelled().await;
    let reason = &tasks.failed().unwrap().reason;
    assert!(
        reason.starts_with("panic: assertion") && reason.contains("sums"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_failure_that_only_ends_its_task_stops_nothing() {
    let tasks = Tasks::new();
    let (ended, end) = oneshot::channel::<Infallible>();
    let mut ended = Some(ended);
    tasks.start("one", OnFailure::LogAndEnd, move |_| {
        let ended = ended.take();
        async move {
            let _held = ended;
            Err(io::Error::other("no"))
        }
    });
    assert!(end.await.is_err());
    assert!(!tasks.stopping().is_cancelled());
    assert_eq!(tasks.failed(), None);
}

#[tokio::test(start_paused = true)]
async fn a_task_starts_again_after_each_failure_until_it_ends_well() {
    let tasks = Tasks::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let (done, end) = oneshot::channel();
    let mut done = Some(done);
    let started = tokio::time::Instant::now();
    let counted = runs.clone();
    tasks.start("again", OnFailure::Restart { backoff: LONG }, move |_| {
        let run = counted.fetch_add(1, Ordering::Relaxed);
        let done = if run == 2 { done.take() } else { None };
        async move {
            match done {
                Some(done) => done.send(()).map_err(|()| io::Error::other("nobody waits")),
                None if run == 0 => Err(io::Error::other("first")),
                None => panic!("second"),
            }
        }
    });
    end.await.unwrap();
    assert_eq!(tasks.shutdown(LONG).await, Ok(()));
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(started.elapsed().as_secs(), 2 * LONG.as_secs());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_tasks_names_the_stuck_and_aborts_them() {
    let tasks = Tasks::new();
    let (aborted, abort) = oneshot::channel::<Infallible>();
    let mut aborted = Some(aborted);
    tasks.start("stuck", OnFailure::LogAndEnd, move |_| {
        let aborted = aborted.take();
        async move {
            let _held = aborted;
            pending::<Result<(), Infallible>>().await
        }
    });
    for name in ["deaf-b".to_owned(), "deaf-a".to_owned()] {
        tasks.start(name, OnFailure::LogAndEnd, |_| {
            pending::<Result<(), Infallible>>()
        });
    }
    tasks.start("polite", OnFailure::LogAndEnd, |stop| async move {
        stop.cancelled().await;
        Ok::<(), Infallible>(())
    });
    // In its pause before the next start, a task stops at once.
    tasks.start(
        "again",
        OnFailure::Restart {
            backoff: 100 * LONG,
        },
        |_| async { Err(io::Error::other("no")) },
    );
    let stuck = tasks.shutdown(LONG).await.unwrap_err();
    assert_eq!(stuck, ["deaf-a", "deaf-b", "stuck"]);
    assert!(abort.await.is_err());
    assert_eq!(tasks.shutdown(LONG).await, Ok(()), "nothing is left");
}

#[tokio::test]
async fn nothing_starts_once_the_set_stops() {
    let tasks = Tasks::new();
    assert_eq!(tasks.shutdown(LONG).await, Ok(()));
    tasks.start("late", OnFailure::StopProcess, |_| async {
        Err(io::Error::other("ran"))
    });
    assert_eq!(tasks.shutdown(LONG).await, Ok(()));
    assert_eq!(tasks.failed(), None);
}

#[tokio::test]
async fn an_abort_asks_nobody_and_waits_until_all_are_gone() {
    let tasks = Tasks::new();
    let (held, dropped) = oneshot::channel::<Infallible>();
    let mut held = Some(held);
    let (graceful, was_asked) = oneshot::channel::<()>();
    let mut graceful = Some(graceful);
    tasks.start("polite", OnFailure::StopProcess, move |stop| {
        let (held, graceful) = (held.take(), graceful.take());
        async move {
            let _held = held;
            stop.cancelled().await;
            if let Some(graceful) = graceful {
                let _ = graceful.send(());
            }
            Ok::<(), Infallible>(())
        }
    });
    tokio::task::yield_now().await;
    tasks.abort().await;
    assert!(dropped.await.is_err(), "it is dropped");
    assert!(was_asked.await.is_err(), "and was not asked");
    tasks.start("late", OnFailure::StopProcess, |_| {
        pending::<Result<(), Infallible>>()
    });
    tasks.abort().await;
}
