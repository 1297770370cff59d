//! Forward, back, and what turns one into the other, in one process.

use cairn_proto::operation::v1alpha1::{OperationState, OperationStepState};

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(
    all_steps_are_done,
    each_step_that_fails_is_rolled_back_with_those_before_it,
    a_panic_is_a_failure_of_its_step,
    a_failed_result_rolls_everything_back,
    a_cancel_takes_effect_between_two_steps,
    the_time_limit_takes_effect_between_two_steps,
    a_step_that_is_left_out_is_not_rolled_back,
    a_rollback_is_tried_again,
    what_cannot_be_rolled_back_is_named,
    past_the_point_of_no_return_it_goes_forward,
    past_the_point_of_no_return_what_fails_is_left,
    the_log_goes_with_its_operation,
);

fn back_from(step: &str) -> Vec<&'static str> {
    let at = STEPS.iter().position(|s| *s == step).unwrap();
    STEPS[..=at].iter().rev().copied().collect()
}

async fn all_steps_are_done(database: Database) {
    let world = World::new(database).await;
    let (uuid, result) = world.call().await;
    assert_eq!(result.await.unwrap().name, "east");
    world.assert_all_done().await;
    let steps = steps(&world.store, uuid).await.unwrap();
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, STEPS);
    assert!(
        steps
            .iter()
            .all(|step| step.state() == OperationStepState::Done)
    );
    assert!(
        steps
            .iter()
            .all(|step| step.start_time.is_some() && step.end_time.is_some())
    );
    // Calls of a step carry an id of its own.
    let keys = world.outside.keys.lock().unwrap().clone();
    let expected = STEPS.map(|step| TaskUuid::of_step(uuid, step, "run").to_string());
    assert_eq!(keys, expected);
}

async fn each_step_that_fails_is_rolled_back_with_those_before_it(database: Database) {
    for failing in STEPS {
        let world = World::new(database).await;
        world.outside.fail(failing, Direction::Run, 1);
        let (uuid, result) = world.call().await;
        let fault = result.await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::AgentFailed);
        assert_eq!(fault.message, format!("{failing} fails in run"));
        assert_eq!(fault.rolled_back, back_from(failing));
        assert_eq!(world.end(uuid).await.state(), OperationState::Failed);
        world.assert_nothing_left().await;
        let steps = steps(&world.store, uuid).await.unwrap();
        for step in steps {
            let undone = fault.rolled_back.contains(&step.name);
            let expected = if undone {
                OperationStepState::RolledBack
            } else {
                OperationStepState::Waiting
            };
            assert_eq!(step.state(), expected, "{}", step.name);
        }
    }
}

async fn a_panic_is_a_failure_of_its_step(database: Database) {
    let hold = Hold::at(Point::BeforeIntent, "attach", Direction::Rollback);
    let world = World::with(database, Shape::default(), Some(hold.clone())).await;
    *world.outside.panics.lock().unwrap() = Some("attach");
    let (_, result) = world.call().await;
    hold.reached().await;
    *world.outside.panics.lock().unwrap() = None;
    hold.let_go();
    let fault = result.await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Internal);
    assert_eq!(fault.rolled_back, back_from("attach"));
    world.assert_nothing_left().await;
}

async fn a_failed_result_rolls_everything_back(database: Database) {
    let world = World::new(database).await;
    *world.outside.finish_fails.lock().unwrap() = true;
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);
    assert_eq!(fault.rolled_back, back_from("record"));
    world.assert_nothing_left().await;
}

async fn a_cancel_takes_effect_between_two_steps(database: Database) {
    for before in [1, 2, 3] {
        let hold = Hold::at(Point::BeforeIntent, STEPS[before], Direction::Run);
        let world = World::with(database, Shape::default(), Some(hold.clone())).await;
        let (uuid, result) = world.call().await;
        hold.reached().await;
        world.operations.cancel(uuid).await.unwrap();
        hold.let_go();
        let fault = result.await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::Cancelled);
        assert_eq!(fault.rolled_back, back_from(STEPS[before - 1]));
        assert_eq!(world.end(uuid).await.state(), OperationState::Cancelled);
        world.assert_nothing_left().await;
        let found = world.outside.found.lock().unwrap().len();
        assert_eq!(found, before, "a rollback has what the run provided");
    }
}

async fn the_time_limit_takes_effect_between_two_steps(database: Database) {
    let shape = Shape {
        limit: Duration::from_millis(400),
        ..Shape::default()
    };
    let world = World::with(database, shape, None).await;
    *world.outside.waits.lock().unwrap() = Some("prepare");
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert_eq!(fault.rolled_back, back_from("prepare"));
    world.assert_nothing_left().await;
}

async fn a_step_that_is_left_out_is_not_rolled_back(database: Database) {
    for skipped in ["prepare", "attach", "record"] {
        let world = World::new(database).await;
        world.outside.skips.lock().unwrap().insert(skipped);
        let (uuid, result) = world.call().await;
        result.await.unwrap();
        let steps = steps(&world.store, uuid).await.unwrap();
        assert_eq!(steps.len(), 3);
        assert!(steps.iter().all(|step| step.name != skipped));
    }
    let world = World::new(database).await;
    world.outside.skips.lock().unwrap().extend(["attach"]);
    world.outside.fail("record", Direction::Run, 1);
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.rolled_back, ["record", "prepare", "allocate"]);
    world.assert_nothing_left().await;
}

async fn a_rollback_is_tried_again(database: Database) {
    let world = World::new(database).await;
    world.outside.fail("record", Direction::Run, 1);
    world.outside.fail("prepare", Direction::Rollback, 2);
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.rolled_back, back_from("record"));
    world.assert_nothing_left().await;
}

async fn what_cannot_be_rolled_back_is_named(database: Database) {
    let world = World::new(database).await;
    world.outside.fail("record", Direction::Run, 1);
    world.outside.fail("prepare", Direction::Rollback, u32::MAX);
    let (uuid, result) = world.call().await;
    let fault = result.await.unwrap_err();
    assert_eq!(
        fault.message,
        format!(
            "record fails in run; not rolled back: prepare, allocate; gc-job {uuid} goes on with it"
        )
    );
    assert_eq!(fault.causes, ["prepare fails in rollback"]);
    assert_eq!(fault.rolled_back, ["record", "attach"]);
    let steps = steps(&world.store, uuid).await.unwrap();
    assert_eq!(steps[1].state(), OperationStepState::Failed);
    assert_eq!(steps[1].error_message, "prepare fails in rollback");
}

async fn past_the_point_of_no_return_it_goes_forward(database: Database) {
    let hold = Hold::at(Point::AfterOutcome, "prepare", Direction::Run);
    let shape = Shape {
        forward_after: Some("prepare"),
        ..Shape::default()
    };
    let world = World::with(database, shape, Some(hold.clone())).await;
    world.outside.fail("attach", Direction::Run, 2);
    let (uuid, result) = world.call().await;
    hold.reached().await;
    world.operations.cancel(uuid).await.unwrap();
    hold.let_go();
    result.await.unwrap();
    world.assert_all_done().await;
    // Each attempt makes calls of its own.
    let task = TaskUuid::of_step(uuid, "attach", "run");
    let keys = world.outside.keys.lock().unwrap().clone();
    assert!(keys.contains(&task.to_string()) && keys.contains(&format!("{task}/2")));
}

async fn past_the_point_of_no_return_what_fails_is_left(database: Database) {
    let shape = Shape {
        forward_after: Some("prepare"),
        ..Shape::default()
    };
    let world = World::with(database, shape, None).await;
    world.outside.fail("attach", Direction::Run, 3);
    let (uuid, result) = world.call().await;
    let fault = result.await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::LeftToGc);
    assert_eq!(
        fault.message,
        format!(
            "attach fails in run; not done, and nothing is rolled back any more: attach, record; \
             gc-job {uuid} goes on with it"
        )
    );
    assert!(fault.rolled_back.is_empty());
}

async fn the_log_goes_with_its_operation(database: Database) {
    let world = World::new(database).await;
    let (uuid, result) = world.call().await;
    result.await.unwrap();
    assert_eq!(world.operations.purge(Duration::ZERO).await.unwrap(), 1);
    assert!(steps(&world.store, uuid).await.unwrap().is_empty());
    let rows = world
        .store
        .rows("SELECT sequence FROM flow_record", vec![])
        .await
        .unwrap();
    assert!(rows.is_empty());
}
