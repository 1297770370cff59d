//! What was accepted ends, whatever becomes of the process; and the housekeeping afterwards.

use cairn_proto::operation::v1alpha1::OperationState;

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(blocking: a_process_that_dies_loses_nothing_that_it_accepted);
on_both_databases!(
    what_was_running_runs_again_and_what_waited_runs_after_it,
    a_watcher_of_an_operation_that_stops_is_told_and_goes_on_after_the_start,
    a_child_goes_on_in_the_queue_of_its_parent,
    it_belongs_to_the_trace_of_its_call_after_the_start_too,
    a_cancelled_one_that_had_no_log_ends_after_the_start,
    without_its_handler_it_stays,
    ended_operations_are_kept_for_a_while,
    many_are_purged_in_batches,
);

async fn what_was_running_runs_again_and_what_waited_runs_after_it(database: Database) {
    let world = World::new(database).await;
    let first = world.accept("hold", "a").await.uuid();
    let second = world.accept("east", "a").await.uuid();
    world.shared.wait_started("hold", 1).await;
    let world = world.restart().await;
    assert_eq!(world.row(first).await.state(), OperationState::Accepted);
    world.shared.wait_started("hold", 1).await;
    world.shared.gate.add_permits(1);
    assert_eq!(world.end(first).await.state(), OperationState::Succeeded);
    assert_eq!(world.end(second).await.state(), OperationState::Succeeded);
    assert_eq!(*world.shared.started.borrow(), ["hold", "east"]);
    assert_eq!(world.count("zone").await, 2);
    // What has ended is not taken up again.
    let world = world.restart().await;
    assert_eq!(world.operations.recover().await.unwrap(), 0);
    assert!(world.shared.started.borrow().is_empty());
}

fn a_process_that_dies_loses_nothing_that_it_accepted(database: Database) {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let dead = runtime();
    let (place, calls) = dead.block_on(async {
        let world = World::new(database).await;
        let mut calls = Vec::new();
        for i in 0..10 {
            calls.push(
                world
                    .accept(&format!("hold-{i}"), &(i % 3).to_string())
                    .await
                    .uuid(),
            );
        }
        world.shared.wait_started("hold-0", 1).await;
        (world.place, calls)
    });
    // Every task is dropped where it is, and with them every handle.
    drop(dead);
    runtime().block_on(async {
        let world = World::open(place, Duration::from_secs(600)).await;
        assert_eq!(world.operations.recover().await.unwrap(), 10);
        assert_eq!(
            world.operations.recover().await.unwrap(),
            0,
            "they run already"
        );
        world.shared.gate.add_permits(10);
        for call in calls {
            assert_eq!(world.end(call).await.state(), OperationState::Succeeded);
        }
        assert_eq!(world.count("zone").await, 10);
        assert_eq!(world.shared.started.borrow().len(), 10);
    });
}

async fn a_watcher_of_an_operation_that_stops_is_told_and_goes_on_after_the_start(
    database: Database,
) {
    let world = World::new(database).await;
    let call = world.accept("hold", "a").await;
    let uuid = call.uuid();
    world.shared.wait_started("hold", 1).await;
    let before = world.operations.watch(uuid, 0).await.unwrap();
    let world = world.restart().await;
    let before: Vec<_> = before.collect().await;
    let fault = before.last().unwrap().as_ref().unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert_eq!(
        call.result().await.unwrap_err().code,
        ErrorCode::Unavailable
    );
    let seen = before[before.len() - 2].as_ref().unwrap().number;
    let mut rest = world.operations.watch(uuid, seen).await.unwrap();
    let progress = rest.next().await.unwrap().unwrap();
    assert!(progress.number > seen, "numbers grow across a restart");
    world.shared.gate.add_permits(1);
    let last = rest.map(Result::unwrap).collect::<Vec<_>>().await.pop();
    assert!(matches!(last.unwrap().event, Some(Happened::Ended(_))));
}

async fn a_child_goes_on_in_the_queue_of_its_parent(database: Database) {
    let world = World::new(database).await.nested();
    let outer = world.accept("nest", "a").await.uuid();
    world.shared.wait_started("hold-inner", 1).await;
    let world = world.restart().await;
    world.shared.wait_started("hold-inner", 1).await;
    world.shared.gate.add_permits(1);
    // The parent repeats its call and attaches to the child, which waits for nobody.
    assert_eq!(world.end(outer).await.state(), OperationState::Succeeded);
    assert_eq!(world.count("operation").await, 2);
}

async fn it_belongs_to_the_trace_of_its_call_after_the_start_too(database: Database) {
    let world = World::new(database).await;
    let mut context = Context::of(AccountUuid::ADMIN);
    let trace: Arc<str> = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    context.traceparent = Some(trace.clone());
    let call = context.scope(world.accept("hold", "a")).await;
    world.shared.wait_started("hold", 1).await;
    assert_eq!(*world.shared.traces.lock().unwrap(), [Some(trace.clone())]);
    let world = world.restart().await;
    world.shared.wait_started("hold", 1).await;
    assert_eq!(*world.shared.traces.lock().unwrap(), [Some(trace)]);
    world.shared.gate.add_permits(1);
    let ended = world.end(call.uuid()).await;
    assert_eq!(ended.state(), OperationState::Succeeded);
}

async fn a_cancelled_one_that_had_no_log_ends_after_the_start(database: Database) {
    let world = World::new(database).await;
    let uuid = world.accept("hold", "a").await.uuid();
    world.shared.wait_started("hold", 1).await;
    world.operations.cancel(uuid).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.end(uuid).await.state(), OperationState::Cancelled);
    assert!(world.shared.started.borrow().is_empty());
}

async fn without_its_handler_it_stays(database: Database) {
    let world = World::new(database).await;
    let uuid = world.accept("hold", "a").await.uuid();
    world.operations.shutdown().await;
    let without = Operations::builder(world.store.clone(), Queues::default()).build();
    assert_eq!(without.recover().await.unwrap(), 0);
    assert_eq!(world.row(uuid).await.state(), OperationState::Accepted);
    without.shutdown().await;
    let world = world.restart().await;
    world.shared.gate.add_permits(1);
    assert_eq!(world.end(uuid).await.state(), OperationState::Succeeded);
}

async fn ended_operations_are_kept_for_a_while(database: Database) {
    let world = World::new(database).await;
    let wanted = CreateZoneRequest {
        name: "east".to_owned(),
        ..CreateZoneRequest::default()
    };
    let first = world.keyed("k", wanted.clone()).await.unwrap();
    let ended = first.uuid();
    first.result().await.unwrap();
    let running = world.accept("hold", "a").await.uuid();
    assert_eq!(world.operations.purge(KEPT).await.unwrap(), 0);
    assert_eq!(world.operations.purge(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(world.row(running).await.state(), OperationState::Accepted);
    assert_eq!(world.count("operation").await, 1);
    assert_eq!(world.count("operation_request").await, 1);
    // The key is free again.
    let again = world.keyed("k", wanted).await.unwrap();
    assert_ne!(again.uuid(), ended);
}

async fn many_are_purged_in_batches(database: Database) {
    let world = World::new(database).await;
    let calls = (0..450).map(|i| world.accept("fail", if i % 2 == 0 { "a" } else { "b" }));
    for call in futures::future::join_all(calls).await {
        call.result().await.unwrap_err();
    }
    assert_eq!(world.operations.purge(Duration::ZERO).await.unwrap(), 450);
    assert_eq!(world.count("operation").await, 0);
}

#[test]
fn a_fault_is_stored_in_full() {
    let fault = Fault {
        causes: vec!["connection refused".to_owned()],
        rolled_back: vec!["allocate-host".to_owned()],
        ..Fault::field("name", "is empty").on("zone", "z")
    };
    assert_eq!(decode_fault(&encode_fault(&fault)).unwrap(), fault);
}
