//! How a step is tried: its time limit, its repeats, nothing to undo.

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(
    a_run_is_tried_as_often_as_the_step_says,
    a_cancel_ends_the_attempts,
    an_attempt_that_takes_too_long_has_failed,
    a_step_without_a_rollback_is_passed_over,
);

fn shape(options: fn(&str) -> Options) -> Shape {
    Shape {
        options,
        ..Shape::default()
    }
}

const AT_ONCE: Retry = Retry {
    attempts: 3,
    first: Duration::ZERO,
    longest: Duration::ZERO,
};

async fn a_run_is_tried_as_often_as_the_step_says(database: Database) {
    for step in STEPS {
        let tried = shape(|_| Options::default().retry(AT_ONCE));
        let world = World::with(database, tried.clone(), None).await;
        world.outside.fail(step, Direction::Run, 2);
        let (uuid, result) = world.call().await;
        result.await.unwrap();
        world.assert_all_done().await;
        let shown = steps(&world.store, uuid).await.unwrap();
        let shown = shown.iter().find(|shown| shown.name == step).unwrap();
        assert_eq!(shown.attempts, 3);
        // Each attempt makes calls of its own.
        let task = TaskUuid::of_step(uuid, step, "run");
        let keys = world.outside.keys.lock().unwrap().clone();
        assert!(keys.contains(&task.to_string()) && keys.contains(&format!("{task}/2")));

        let world = World::with(database, tried, None).await;
        world.outside.fail(step, Direction::Run, 3);
        let fault = world.result().await.unwrap_err();
        assert_eq!(fault.message, format!("{step} fails in run"));
        world.assert_nothing_left().await;
    }
}

async fn a_cancel_ends_the_attempts(database: Database) {
    let tried = shape(|_| {
        Options::default().retry(Retry {
            attempts: u32::MAX,
            first: Duration::from_secs(3600),
            longest: Duration::from_secs(3600),
        })
    });
    let hold = Hold::at(Point::AfterIntent, "attach", Direction::Run);
    let world = World::with(database, tried, Some(hold.clone())).await;
    world.outside.fail("attach", Direction::Run, u32::MAX);
    let (uuid, result) = world.call().await;
    hold.reached().await;
    hold.let_go();
    world.operations.cancel(uuid).await.unwrap();
    let fault = result.await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Cancelled);
    assert_eq!(fault.rolled_back, ["attach", "prepare", "allocate"]);
    world.assert_nothing_left().await;
}

async fn an_attempt_that_takes_too_long_has_failed(database: Database) {
    let timed = shape(|step| match step {
        "prepare" => Options::default().timeout(Duration::from_millis(50)),
        _ => Options::default(),
    });
    let hold = Hold::at(Point::BeforeIntent, "prepare", Direction::Rollback);
    let world = World::with(database, timed, Some(hold.clone())).await;
    *world.outside.waits.lock().unwrap() = Some("prepare");
    let (_, result) = world.call().await;
    hold.reached().await;
    *world.outside.waits.lock().unwrap() = None;
    hold.let_go();
    let fault = result.await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert_eq!(fault.message, "step `prepare` took longer than 50ms");
    assert_eq!(fault.rolled_back, ["prepare", "allocate"]);
    world.assert_nothing_left().await;
}

async fn a_step_without_a_rollback_is_passed_over(database: Database) {
    let without = shape(|step| match step {
        "prepare" => Options::default().no_rollback(),
        _ => Options::default(),
    });
    for failing in ["prepare", "attach", "record"] {
        let world = World::with(database, without.clone(), None).await;
        world.outside.fail(failing, Direction::Run, 1);
        let fault = world.result().await.unwrap_err();
        let undone = fault.rolled_back;
        assert!(!undone.contains(&"prepare".to_owned()), "{undone:?}");
        assert_eq!(undone.last().unwrap(), "allocate");
        let live = world.outside.live.lock().unwrap().clone();
        assert_eq!(live.into_iter().collect::<Vec<_>>(), ["prepare"]);
        assert!(world.taken().await.is_empty());
    }
}
