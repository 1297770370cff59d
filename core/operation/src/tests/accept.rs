//! A call becomes an operation once, or not at all.

use cairn_proto::operation::v1alpha1::OperationState;
use cairn_testkit::{Database, on_both_databases};
use futures::poll;

use super::*;

on_both_databases!(
    a_call_ends_in_its_result,
    a_wrong_request_writes_nothing,
    a_caller_that_leaves_before_acceptance_leaves_no_trace,
    a_caller_that_leaves_after_acceptance_changes_nothing,
    a_repeat_attaches_before_and_after_the_end_and_after_a_restart,
    a_key_is_good_for_one_request_of_one_account,
    repeats_at_once_make_one_operation,
    nothing_is_accepted_once_it_stops,
    what_nobody_handles_is_refused,
);
on_both_databases!(multi_thread: two_hundred_at_once);

async fn a_call_ends_in_its_result(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("east", "a").await;
    let uuid = call.uuid();
    assert_eq!(
        world.row(uuid).await.resource_uuid,
        call.accepted.resource_uuid
    );
    let zone = call.result().await.unwrap();
    assert_eq!(zone.name, "east");
    let row = world.row(uuid).await;
    assert_eq!(row.state(), OperationState::Succeeded);
    assert_eq!(
        (row.name.as_str(), row.method.as_str()),
        ("CreateZone", Create::METHOD.path)
    );
    assert_eq!(world.end(uuid).await, row);
}

async fn a_wrong_request_writes_nothing(database: Database) {
    let world = World::new(database).await;
    let Err(status) = world.try_accept(request("", "a")).await else {
        panic!("accepted");
    };
    assert_eq!(Fault::from_status(&status).fields[0].0, "name");
    assert_eq!(world.count("operation").await, 0);
    assert_eq!(world.count("operation_request").await, 0);
}

async fn a_caller_that_leaves_before_acceptance_leaves_no_trace(database: Database) {
    let world = World::new(database).await;
    // On this runtime the acceptor runs only when we wait.
    let mut call = Box::pin(world.operations.accept::<Create>(request("gone", "a")));
    assert!(poll!(&mut call).is_pending());
    drop(call);
    world.accept("east", "a").await.result().await.unwrap();
    assert_eq!(world.count("operation").await, 1);
}

async fn a_caller_that_leaves_after_acceptance_changes_nothing(database: Database) {
    let world = World::new(database).await;
    let call = world.accept("hold", "a").await;
    let uuid = call.uuid();
    drop(call);
    world.shared.gate.add_permits(1);
    assert_eq!(world.end(uuid).await.state(), OperationState::Succeeded);
}

async fn a_repeat_attaches_before_and_after_the_end_and_after_a_restart(database: Database) {
    let world = World::new(database).await;
    let wanted = CreateZoneRequest {
        name: "hold".to_owned(),
        ..CreateZoneRequest::default()
    };
    let first = world.keyed("k", wanted.clone()).await.unwrap();
    let repeat = world.keyed("k", wanted.clone()).await.unwrap();
    assert_eq!(first.accepted, repeat.accepted);
    world.shared.gate.add_permits(1);
    let zone = first.result().await.unwrap();
    assert_eq!(repeat.result().await.unwrap(), zone);
    let late = world.keyed("k", wanted.clone()).await.unwrap();
    assert_eq!(late.result().await.unwrap(), zone);
    let world = world.restart().await;
    let later = world.keyed("k", wanted).await.unwrap();
    assert_eq!(later.result().await.unwrap(), zone);
    assert_eq!(world.count("operation").await, 1);
    assert!(world.shared.started.borrow().is_empty());
}

async fn a_key_is_good_for_one_request_of_one_account(database: Database) {
    let world = World::new(database).await;
    let named = |name: &str| CreateZoneRequest {
        uuid: Uuid::now_v7().to_string(),
        name: name.to_owned(),
        ..CreateZoneRequest::default()
    };
    let first = world.keyed("k", named("east")).await.unwrap();
    let Err(status) = world.keyed("k", named("west")).await else {
        panic!("accepted");
    };
    let fault = Fault::from_status(&status);
    assert_eq!(fault.code, ErrorCode::IdempotencyKeyReused);
    assert!(fault.message.contains(&first.accepted.operation_uuid));
    let mut other = Context::of(AccountUuid::generate());
    other.idempotency_key = Some("k".into());
    let other = other
        .scope(world.try_accept(request("west", "b")))
        .await
        .unwrap();
    assert_ne!(other.accepted.operation_uuid, first.accepted.operation_uuid);
}

async fn repeats_at_once_make_one_operation(database: Database) {
    let world = World::new(database).await;
    let wanted = CreateZoneRequest {
        name: "east".to_owned(),
        ..CreateZoneRequest::default()
    };
    let calls = (0..20).map(|_| world.keyed("k", wanted.clone()));
    let calls = futures::future::try_join_all(calls).await.unwrap();
    for call in calls {
        call.result().await.unwrap();
    }
    assert_eq!(world.count("operation").await, 1);
    assert_eq!(world.count("zone").await, 1);
}

async fn two_hundred_at_once(database: Database) {
    let world = World::new(database).await;
    let calls = (0..200).map(|i| {
        let lane = if i % 2 == 0 {
            i.to_string()
        } else {
            (i % 20).to_string()
        };
        let world = &world;
        async move { world.accept("east", &lane).await.result().await }
    });
    futures::future::try_join_all(calls).await.unwrap();
    assert_eq!(world.count("zone").await, 200);
    let sequences = world
        .store
        .rows(
            "SELECT COUNT(DISTINCT sequence) FROM operation_request",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(sequences[0].int(0).unwrap(), 200);
}

async fn nothing_is_accepted_once_it_stops(database: Database) {
    let world = World::new(database).await;
    world.operations.shutdown().await;
    let Err(status) = world.try_accept(request("east", "a")).await else {
        panic!("accepted");
    };
    assert_eq!(Fault::from_status(&status).code, ErrorCode::Unavailable);
}

async fn what_nobody_handles_is_refused(database: Database) {
    let world = World::new(database).await;
    let empty = Operations::builder(world.store.clone(), Queues::default()).build();
    let Err(status) = empty.accept::<Create>(request("east", "a")).await else {
        panic!("accepted");
    };
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}
