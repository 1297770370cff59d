//! The process dies at every point of every step, in both directions: it changes only when.

use cairn_testkit::{Database, on_both_databases};
use prost::Message as _;

use super::*;
use crate::log::Kind;

on_both_databases!(
    forward_it_goes_on,
    back_it_goes_on,
    each_failing_step_is_rolled_back_after_a_crash_too,
    a_cancel_before_the_crash_rolls_back_after_it,
    recovery_follows_the_recorded_steps,
    a_run_of_before_there_were_records_goes_on,
    a_run_with_an_unknown_step_waits_for_one_who_knows_it,
);

pub(super) const POINTS: [Point; 4] = [
    Point::BeforeIntent,
    Point::AfterIntent,
    Point::AfterEffect,
    Point::AfterOutcome,
];

/// Runs into `point` of `step`, dies there, starts again, and returns how it ended.
async fn crash_at(
    database: Database,
    point: Point,
    step: &'static str,
    direction: Direction,
    prepare: impl Fn(&Outside),
) -> (World, Result<Zone, Fault>) {
    crash_in(
        database,
        Shape::default(),
        (point, step, direction),
        prepare,
    )
    .await
}

/// The same with a flow of that shape.
pub(super) async fn crash_in(
    database: Database,
    shape: Shape,
    (point, step, direction): (Point, &'static str, Direction),
    prepare: impl Fn(&Outside),
) -> (World, Result<Zone, Fault>) {
    let hold = Hold::at(point, step, direction);
    let world = World::with(database, shape.clone(), Some(hold.clone())).await;
    prepare(&world.outside);
    let (uuid, result) = world.call().await;
    tokio::select! {
        () = hold.reached() => {}
        // Nothing is announced before the first step, for it has no effect outside.
        _ = result => assert_eq!((point, step), (Point::BeforeIntent, "allocate")),
    }
    let world = world.restart(shape).await;
    world.end(uuid).await;
    let result = world.result().await;
    (world, result)
}

async fn forward_it_goes_on(database: Database) {
    for step in STEPS {
        for point in POINTS {
            let (world, result) = crash_at(database, point, step, Direction::Run, |_| {}).await;
            assert_eq!(result.unwrap().name, "east", "{point:?} {step}");
            world.assert_all_done().await;
        }
    }
}

async fn back_it_goes_on(database: Database) {
    for step in STEPS {
        for point in POINTS {
            let fail = |outside: &Outside| outside.fail("record", Direction::Run, 1);
            let (world, result) = crash_at(database, point, step, Direction::Rollback, fail).await;
            // Before the turn was committed, nobody knows any more that the step had failed.
            if (point, step) == (Point::BeforeIntent, "record") {
                result.unwrap();
                world.assert_all_done().await;
                continue;
            }
            let fault = result.unwrap_err();
            assert_eq!(fault.message, "record fails in run", "{point:?} {step}");
            assert_eq!(
                fault.rolled_back,
                ["record", "attach", "prepare", "allocate"]
            );
            world.assert_nothing_left().await;
        }
    }
}

async fn each_failing_step_is_rolled_back_after_a_crash_too(database: Database) {
    for step in STEPS {
        for point in [Point::AfterIntent, Point::AfterEffect] {
            let fail = |outside: &Outside| outside.fail(step, Direction::Run, 1);
            let (world, result) =
                crash_at(database, point, "allocate", Direction::Rollback, fail).await;
            assert_eq!(result.unwrap_err().rolled_back.last().unwrap(), "allocate");
            world.assert_nothing_left().await;
        }
    }
}

async fn a_cancel_before_the_crash_rolls_back_after_it(database: Database) {
    let hold = Hold::at(Point::AfterEffect, "attach", Direction::Run);
    let world = World::with(database, Shape::default(), Some(hold.clone())).await;
    let (uuid, _) = world.call().await;
    hold.reached().await;
    world.operations.cancel(uuid).await.unwrap();
    let world = world.restart(Shape::default()).await;
    let fault = world.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Cancelled);
    assert_eq!(fault.rolled_back, ["attach", "prepare", "allocate"]);
    world.assert_nothing_left().await;
}

async fn recovery_follows_the_recorded_steps(database: Database) {
    let hold = Hold::at(Point::AfterOutcome, "allocate", Direction::Run);
    let world = World::with(database, Shape::default(), Some(hold.clone())).await;
    let (uuid, _) = world.call().await;
    hold.reached().await;
    let reordered = Shape {
        steps: vec!["allocate", "record", "attach", "new", "prepare"],
        ..Shape::default()
    };
    let world = world.restart(reordered).await;
    world.result().await.unwrap();
    let names = steps(&world.store, uuid).await.unwrap();
    let names: Vec<_> = names.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, STEPS);
    assert_eq!(world.taken().await, ["allocate", "record"]);
}

async fn a_run_of_before_there_were_records_goes_on(database: Database) {
    for direction in [Direction::Run, Direction::Rollback] {
        let hold = Hold::at(Point::AfterOutcome, "prepare", direction);
        let world = World::with(database, Shape::default(), Some(hold.clone())).await;
        if direction == Direction::Rollback {
            world.outside.fail("attach", Direction::Run, 3);
        }
        let (uuid, _) = world.call().await;
        hold.reached().await;
        write_as_before(&world.store, uuid).await;
        let world = world.restart(Shape::default()).await;
        match (direction, world.result().await) {
            (Direction::Run, result) => {
                result.unwrap();
                world.assert_all_done().await;
            }
            (Direction::Rollback, result) => {
                let fault = result.unwrap_err();
                assert_eq!(fault.rolled_back, ["attach", "prepare", "allocate"]);
                world.assert_nothing_left().await;
            }
        }
        let times = steps(&world.store, uuid).await.unwrap();
        assert!(times[0].end_time.is_some(), "{times:?}");
    }
}

/// Keeps a run in the tables of before there were records, its steps as they were written before
/// there were groups.
async fn write_as_before(store: &Store, operation: OperationUuid) {
    let recorded = crate::log::load(store, operation).await.unwrap().unwrap();
    let kind = |kind| match kind {
        Kind::Intent => "intent",
        Kind::Outcome => "outcome",
        Kind::Failed => "failed",
        Kind::Skipped => "skipped",
    };
    let turned = recorded.turned.as_ref();
    let direction = turned.map_or(Direction::Run, |_| Direction::Rollback);
    let mut rows = vec![(
        "INSERT INTO flow_run (operation_uuid, flow, steps, bag, direction, fault) \
         VALUES (?, ?, 'allocate,prepare,attach,record', ?, ?, ?)",
        vec![
            operation.into(),
            (&recorded.flow).into(),
            recorded.bag.encode_to_vec().into(),
            direction.as_str().into(),
            turned.map(cairn_operation::encode_fault).into(),
        ],
    )];
    for (sequence, (entry, time)) in (0_i64..).zip(&recorded.entries) {
        rows.push((
            "INSERT INTO flow_log (operation_uuid, sequence, step, direction, kind, payload, \
             error, time) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            vec![
                operation.into(),
                sequence.into(),
                (&entry.step).into(),
                entry.direction().as_str().into(),
                kind(entry.kind()).into(),
                entry.payload.clone().into(),
                entry.error.clone().into(),
                (*time).into(),
            ],
        ));
    }
    let written = store.write(move |tx| {
        let rows = rows.clone();
        Box::pin(async move {
            for (sql, values) in rows {
                tx.execute(sql, values).await?;
            }
            let gone = "DELETE FROM flow_record WHERE operation_uuid = ?";
            tx.execute(gone, vec![operation.into()]).await
        })
    });
    written.await.unwrap();
}

async fn a_run_with_an_unknown_step_waits_for_one_who_knows_it(database: Database) {
    let hold = Hold::at(Point::AfterOutcome, "prepare", Direction::Run);
    let world = World::with(database, Shape::default(), Some(hold.clone())).await;
    let (uuid, _) = world.call().await;
    hold.reached().await;
    let without = Shape {
        steps: vec!["allocate", "prepare", "record"],
        limit: Duration::ZERO,
        ..Shape::default()
    };
    let world = world.restart(without).await;
    world.operations.cancel(uuid).await.unwrap();
    let world = world.restart(Shape::default()).await;
    assert_eq!(world.result().await.unwrap_err().code, ErrorCode::Cancelled);
    world.assert_nothing_left().await;
}
