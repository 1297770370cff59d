//! From the queue to the end: order, cancel, time limit, failure, and what watchers see.

use cairn_proto::operation::v1alpha1::OperationState;

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(
    tasks_of_a_queue_run_in_the_order_of_acceptance,
    one_that_waits_says_so_and_is_cancelled_at_once,
    one_that_runs_hears_of_a_cancel,
    a_run_that_finishes_first_wins,
    a_cancel_of_nothing_is_not_found_and_of_an_ended_one_changes_nothing,
    past_its_time_limit_it_is_not_started,
    at_its_time_limit_a_run_is_dropped,
    a_panic_ends_that_operation_and_nothing_else,
    a_failure_is_told_in_full_now_and_later,
    a_failed_finish_keeps_nothing,
    a_call_made_for_a_run_enters_the_queue_that_it_holds,
    a_watch_goes_on_where_it_was_cut,
    a_watch_of_nothing_is_not_found,
);

async fn tasks_of_a_queue_run_in_the_order_of_acceptance(database: Database) {
    let world = World::new(database).await;
    let mut calls = vec![world.accept("hold", "a").await];
    for i in 0..20 {
        calls.push(world.accept(&format!("n-{i}"), "a").await);
    }
    world.shared.gate.add_permits(1);
    for call in calls {
        call.result().await.unwrap();
    }
    let expected = (0..20).map(|i| format!("n-{i}"));
    let expected: Vec<_> = ["hold".to_owned()].into_iter().chain(expected).collect();
    assert_eq!(*world.shared.started.borrow(), expected);
}

async fn one_that_waits_says_so_and_is_cancelled_at_once(database: Database) {
    let world = World::new(database).await;
    let _first = world.accept("hold", "a").await;
    let waiting = world.accept("east", "a").await;
    let uuid = waiting.uuid();
    let mut events = world.operations.watch(uuid, 1).await.unwrap();
    let place = events.next().await.unwrap().unwrap();
    let Some(Happened::Progress(progress)) = place.event else {
        panic!("{place:?}");
    };
    assert_eq!(progress.message, "waits in queue lane/a: 1 ahead");
    assert!(
        world
            .operations
            .cancel(uuid)
            .await
            .unwrap()
            .cancel_requested
    );
    assert_eq!(
        waiting.result().await.unwrap_err().code,
        ErrorCode::Cancelled
    );
    assert_eq!(world.row(uuid).await.state(), OperationState::Cancelled);
    assert_eq!(*world.shared.started.borrow(), ["hold"]);
}

async fn one_that_runs_hears_of_a_cancel(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("until-cancelled", "a").await;
    world.shared.wait_started("until-cancelled", 1).await;
    let uuid = call.uuid();
    world.operations.cancel(uuid).await.unwrap();
    assert_eq!(call.result().await.unwrap_err().code, ErrorCode::Cancelled);
    assert_eq!(world.end(uuid).await.state(), OperationState::Cancelled);
}

async fn a_run_that_finishes_first_wins(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("hold", "a").await;
    world.shared.wait_started("hold", 1).await;
    world.operations.cancel(call.uuid()).await.unwrap();
    world.shared.gate.add_permits(1);
    call.result().await.unwrap();
}

async fn a_cancel_of_nothing_is_not_found_and_of_an_ended_one_changes_nothing(database: Database) {
    let world = World::new(database).await;
    let missing = world.operations.cancel(OperationUuid::generate()).await;
    assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    let call = world.accept("east", "a").await;
    let uuid = call.uuid();
    call.result().await.unwrap();
    let row = world.row(uuid).await;
    assert_eq!(world.operations.cancel(uuid).await.unwrap(), row);
    assert_eq!(world.row(uuid).await, row);
}

async fn past_its_time_limit_it_is_not_started(database: Database) {
    let world = World::with_limit(database, Duration::ZERO).await;
    let call = world.accept("east", "a").await;
    let uuid = call.uuid();
    let fault = call.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert_eq!(world.row(uuid).await.state(), OperationState::Failed);
    assert!(world.shared.started.borrow().is_empty());
}

async fn at_its_time_limit_a_run_is_dropped(database: Database) {
    let world = World::with_limit(database, Duration::from_millis(400)).await;
    let call = world.accept("hold", "a").await;
    let fault = call.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert_eq!(world.count("zone").await, 0);
}

async fn a_panic_ends_that_operation_and_nothing_else(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("panic", "a").await;
    let fault = call.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Internal);
    assert!(fault.message.contains("on purpose"));
    world.accept("east", "a").await.result().await.unwrap();
}

async fn a_failure_is_told_in_full_now_and_later(database: Database) {
    let world = World::new(database).await;
    let wanted = CreateZoneRequest {
        name: "fail".to_owned(),
        ..CreateZoneRequest::default()
    };
    let call = world.keyed("k", wanted.clone()).await.unwrap();
    let uuid = call.uuid();
    let fault = call.result().await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfCapacity);
    assert_eq!(fault.causes, ["asked 3 hosts"]);
    assert_eq!(fault.resource.as_ref().unwrap().0, "zone");
    let late = world.keyed("k", wanted).await.unwrap();
    assert_eq!(late.result().await.unwrap_err(), fault);
    let row = world.row(uuid).await;
    assert_eq!(row.error_code.as_deref(), Some("OUT_OF_CAPACITY"));
    assert_eq!(row.error_message.as_deref(), Some("no host has 4 GiB left"));
}

async fn a_failed_finish_keeps_nothing(database: Database) {
    let world = World::new(database).await;
    let zone = request("east", "a").into_inner();
    let first = world
        .try_accept(tonic::Request::new(zone.clone()))
        .await
        .unwrap();
    first.result().await.unwrap();
    let second = world.try_accept(tonic::Request::new(zone)).await.unwrap();
    assert_eq!(
        second.result().await.unwrap_err().code,
        ErrorCode::AlreadyExists
    );
    assert_eq!(world.count("zone").await, 1);
}

async fn a_call_made_for_a_run_enters_the_queue_that_it_holds(database: Database) {
    let world = World::new(database).await.nested();
    let outer = world.accept("nest", "a").await;
    let next = world.accept("east", "a").await;
    let parent = outer.uuid();
    world.shared.wait_started("hold-inner", 1).await;
    world.shared.gate.add_permits(1);
    outer.result().await.unwrap();
    next.result().await.unwrap();
    assert_eq!(
        *world.shared.started.borrow(),
        ["nest", "hold-inner", "east"]
    );
    let children = world
        .store
        .list::<Operation>("parent_uuid = ?", vec![parent.into()])
        .await
        .unwrap();
    assert_eq!(children.len(), 1);
}

async fn a_watch_goes_on_where_it_was_cut(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("hold", "a").await;
    let uuid = call.uuid();
    world.shared.wait_started("hold", 1).await;
    let events = world.operations.watch(uuid, 0).await.unwrap();
    let seen: Vec<_> = events.take(2).map(Result::unwrap).collect().await;
    assert!(matches!(seen[0].event, Some(Happened::Accepted(_))));
    assert!(matches!(seen[1].event, Some(Happened::Progress(_))));
    assert!(seen[0].number < seen[1].number);
    let mut rest = world.operations.watch(uuid, seen[1].number).await.unwrap();
    world.shared.gate.add_permits(1);
    let last = rest.next().await.unwrap().unwrap();
    assert!(matches!(last.event, Some(Happened::Ended(_))));
    assert!(last.number > seen[1].number);
    assert!(rest.next().await.is_none());
    // The end is told whatever the watcher has seen.
    for after in [0, last.number, u64::MAX / 2] {
        let all = world.operations.watch(uuid, after).await.unwrap();
        let all: Vec<_> = all.map(Result::unwrap).collect().await;
        assert_eq!(all.len(), if after == 0 { 2 } else { 1 });
        assert!(matches!(
            all.last().unwrap().event,
            Some(Happened::Ended(_))
        ));
        assert!(all.last().unwrap().number > after);
    }
}

async fn a_watch_of_nothing_is_not_found(database: Database) {
    let world = World::new(database).await;
    let missing = world.operations.watch(OperationUuid::generate(), 0).await;
    assert_eq!(missing.err().unwrap().code, ErrorCode::NotFound);
}
