//! What an operation meets in its queue: others that call each other, a full queue, an urgent one.

use cairn_testkit::{Database, on_both_databases};

use super::*;

on_both_databases!(
    a_run_may_need_the_queue_that_its_callers_hold,
    of_runs_that_need_each_others_queues_one_is_refused,
    a_full_queue_accepts_nothing_but_repeats,
    an_urgent_one_goes_first_and_what_ran_before_a_restart_before_it,
);

/// The deletion of a host stops its virtual machines, and each stop asks the host: the queue of
/// the host must not be in the way.
async fn a_run_may_need_the_queue_that_its_callers_hold(database: Database) {
    let world = World::new(database).await.nested();
    let delete = world.accept("call-vm-host", "host").await;
    let next = world.accept("next", "host").await;
    delete.result().await.unwrap();
    next.result().await.unwrap();
    assert_eq!(
        *world.shared.started.borrow(),
        ["call-vm-host", "call-host", "end", "next"]
    );
}

/// The deletion of a host waits for the stop of a virtual machine, whose own operation asks the
/// host. Neither hangs, and it is said what happened.
async fn of_runs_that_need_each_others_queues_one_is_refused(database: Database) {
    let world = World::new(database).await.nested();
    let delete = world.accept("meet-vm", "host").await;
    let start = world.accept("meet-host", "vm").await;
    world.shared.wait_started("meet-vm", 1).await;
    world.shared.wait_started("meet-host", 1).await;
    let (uuids, rows) = (
        [delete.uuid(), start.uuid()],
        world.count("operation").await,
    );
    world.shared.gate.add_permits(2);
    let (delete, start) = tokio::join!(delete.result(), start.result());
    let refused = match (delete, start) {
        (Ok(_), Err(fault)) | (Err(fault), Ok(_)) => fault,
        both => panic!("{both:?}"),
    };
    assert_eq!(refused.code, ErrorCode::WaitCycle);
    for part in ["lane/host", "lane/vm"]
        .into_iter()
        .map(str::to_owned)
        .chain(uuids.map(|u| u.to_string()))
    {
        assert!(
            refused.message.contains(&part),
            "{part} is not in {}",
            refused.message
        );
    }
    // What closed the circle was refused before it was written.
    assert_eq!(world.count("operation").await, rows + 1);
    assert!(world.operations.queues().is_empty());
}

async fn a_full_queue_accepts_nothing_but_repeats(database: Database) {
    let world = World::new(database).await;
    let runs = world.accept("hold", "a").await;
    let full = request("full", "a").into_inner();
    let waits = world.keyed("k", full.clone()).await.unwrap();
    let status = world.try_accept(request("full", "a")).await.err().unwrap();
    let fault = Fault::from_status(&status);
    assert_eq!(fault.code, ErrorCode::Overloaded);
    assert!(fault.retry_after.is_some());
    let ahead = format!(
        "queue lane/a is full: 1 wait in it, as many as may, behind operation {}",
        runs.uuid()
    );
    assert!(fault.message.starts_with(&ahead), "{}", fault.message);
    let repeat = world.keyed("k", full).await.unwrap();
    assert_eq!(repeat.uuid(), waits.uuid());
    assert_eq!(world.count("operation").await, 2);
    world.shared.gate.add_permits(1);
    repeat.result().await.unwrap();
}

async fn an_urgent_one_goes_first_and_what_ran_before_a_restart_before_it(database: Database) {
    let world = World::new(database).await;
    let runs = world.accept("hold", "a").await;
    world.shared.wait_started("hold", 1).await;
    world
        .store
        .write({
            let uuid = runs.uuid();
            move |tx| {
                Box::pin(async move { Ok::<_, Fault>(OperationContext::mark_log(tx, uuid).await?) })
            }
        })
        .await
        .unwrap();
    let usual = world.accept("usual", "a").await;
    let urgent = world.accept("urgent", "a").await;
    let uuids = [runs.uuid(), urgent.uuid(), usual.uuid()];
    let world = world.restart().await;
    world.shared.gate.add_permits(1);
    for uuid in uuids {
        world.end(uuid).await;
    }
    assert_eq!(*world.shared.started.borrow(), ["hold", "urgent", "usual"]);
}
