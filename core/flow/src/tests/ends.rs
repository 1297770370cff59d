//! Done, error and finally: each exactly once, whatever happens.

use cairn_testkit::{Database, on_both_databases};

use super::{crash::*, *};

on_both_databases!(
    each_hook_takes_place_once,
    a_crash_around_the_end_does_not_repeat_it,
    a_hook_that_fails_when_all_is_done_turns_the_flow,
    a_hook_that_keeps_failing_does_not_keep_the_operation,
);

fn shape() -> Shape {
    Shape {
        hooks: vec![
            (When::Finally, "finally"),
            (When::Done, "done"),
            (When::Error, "error"),
        ],
        ..Shape::default()
    }
}

async fn each_hook_takes_place_once(database: Database) {
    let world = World::with(database, shape(), None).await;
    world.result().await.unwrap();
    assert_eq!(
        world.taken().await,
        ["allocate", "done", "finally", "record"]
    );

    for failing in STEPS {
        let world = World::with(database, shape(), None).await;
        world.outside.fail(failing, Direction::Run, 1);
        world.result().await.unwrap_err();
        assert_eq!(world.taken().await, ["error", "finally"], "{failing}");
    }
    // What is left is an error too.
    let world = World::with(database, shape(), None).await;
    world.outside.fail("record", Direction::Run, 1);
    world.outside.fail("prepare", Direction::Rollback, u32::MAX);
    world.result().await.unwrap_err();
    assert_eq!(world.taken().await, ["allocate", "error", "finally"]);
}

async fn a_crash_around_the_end_does_not_repeat_it(database: Database) {
    for point in POINTS {
        let at = (point, "record", Direction::Run);
        let (world, result) = crash_in(database, shape(), at, |_| {}).await;
        result.unwrap();
        assert_eq!(
            world.taken().await,
            ["allocate", "done", "finally", "record"],
            "{point:?}"
        );
        let fail = |outside: &Outside| outside.fail("prepare", Direction::Run, 1);
        let at = (point, "allocate", Direction::Rollback);
        let (world, result) = crash_in(database, shape(), at, fail).await;
        result.unwrap_err();
        assert_eq!(world.taken().await, ["error", "finally"], "{point:?}");
    }
}

async fn a_hook_that_fails_when_all_is_done_turns_the_flow(database: Database) {
    let world = World::with(database, shape(), None).await;
    world.outside.fail("done", Direction::Run, 1);
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.message, "the hook fails");
    assert_eq!(fault.rolled_back.len(), STEPS.len());
    assert_eq!(world.taken().await, ["error", "finally"]);
}

async fn a_hook_that_keeps_failing_does_not_keep_the_operation(database: Database) {
    let world = World::with(database, shape(), None).await;
    world.outside.fail("record", Direction::Run, 1);
    world.outside.fail("error", Direction::Run, u32::MAX);
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.message, "record fails in run");
    assert_eq!(
        fault.causes,
        ["what its hooks write at the end is missing: they failed"]
    );
    world.assert_nothing_left().await;
}
