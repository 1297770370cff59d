//! What a flow could not bring to its end is a job, and a job is done in the end, whatever dies.

use cairn_proto::operation::v1alpha1::{GcJob, OperationState, OperationStepState};
use cairn_testkit::{Database, on_both_databases, wait_for};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::gc::wake;

on_both_databases!(
    what_cannot_be_rolled_back_is_a_job_that_finishes_it,
    what_cannot_be_finished_is_a_job_that_finishes_it,
    each_attempt_that_fails_is_told_and_comes_later,
    a_job_survives_death_at_every_point_of_every_step,
    who_waits_for_a_host_is_due_when_it_is_back,
    an_operation_stays_as_long_as_its_job,
    a_job_that_is_given_up_changes_nothing_any_more,
    a_job_is_tried_once_at_a_time,
    what_has_not_ended_has_left_nothing,
);

impl World {
    fn gc(&self) -> Gc {
        Gc::new(self.store.clone(), self.operations.clone())
    }

    async fn jobs(&self) -> Vec<GcJob> {
        self.store.list::<GcJob>("", vec![]).await.unwrap()
    }

    /// Has the job be due, as it would be some time later.
    async fn let_time_pass(&self) {
        let due = self.store.write(|tx| {
            Box::pin(async move { tx.execute("UPDATE gc_job SET due_time = 0", vec![]).await })
        });
        due.await.unwrap();
    }

    /// Collects until there is no job any more.
    async fn collect(&self) {
        let stop = CancellationToken::new();
        let mut collector = JoinSet::new();
        collector.spawn(self.gc().run(stop.clone()));
        let done = async || self.jobs().await.is_empty().then_some(());
        wait_for("the jobs are done", done, Duration::from_secs(60)).await;
        stop.cancel();
        collector.join_next().await.unwrap().unwrap();
    }

    /// One that failed in its last step, and left the rollback of the first two.
    async fn with_a_job(database: Database, failpoints: Option<Arc<dyn Failpoints>>) -> Self {
        let world = Self::with(database, Shape::default(), failpoints).await;
        world.outside.fail("record", Direction::Run, 1);
        world.outside.fail("prepare", Direction::Rollback, 3);
        world.result().await.unwrap_err();
        world
    }
}

async fn what_cannot_be_rolled_back_is_a_job_that_finishes_it(database: Database) {
    let world = World::with_a_job(database, None).await;
    let (uuid, _) = world.call().await;
    let [job] = &world.jobs().await[..] else {
        panic!("no job");
    };
    assert_eq!(job.uuid, uuid.to_string());
    assert_eq!(job.name, "CreateZone");
    assert_eq!(job.flow, "create-zone");
    assert_eq!(job.steps, "prepare, allocate");
    assert!(job.rolls_back && job.attempts == 0);
    assert_eq!(job.last_error, "prepare fails in rollback");
    assert!(job.due_time.unwrap().seconds >= job.create_time.unwrap().seconds);
    let before = world.end(uuid).await;

    let done = world.gc().trigger(&job.uuid).await.unwrap();
    assert_eq!(done.uuid, job.uuid);
    assert!(world.jobs().await.is_empty());
    world.assert_nothing_left().await;
    assert_eq!(world.end(uuid).await, before, "its end stays what it was");
    let steps = steps(&world.store, uuid).await.unwrap();
    let undone = |step: &cairn_proto::operation::v1alpha1::OperationStep| {
        step.state() == OperationStepState::RolledBack
    };
    assert!(steps.iter().all(undone), "{steps:?}");
}

async fn what_cannot_be_finished_is_a_job_that_finishes_it(database: Database) {
    let shape = Shape {
        forward_after: Some("prepare"),
        ..Shape::default()
    };
    let world = World::with(database, shape, None).await;
    world.outside.fail("attach", Direction::Run, 3);
    let (uuid, result) = world.call().await;
    assert_eq!(result.await.unwrap_err().code, ErrorCode::LeftToGc);
    let job = world.jobs().await.remove(0);
    assert_eq!(job.steps, "attach, record");
    assert!(!job.rolls_back);
    world.let_time_pass().await;
    world.collect().await;
    world.assert_all_done().await;
    assert_eq!(world.end(uuid).await.state(), OperationState::Failed);
}

async fn each_attempt_that_fails_is_told_and_comes_later(database: Database) {
    let world = World::with_a_job(database, None).await;
    let first = world.jobs().await.remove(0);
    world.outside.fail("prepare", Direction::Rollback, 3);
    let fault = world.gc().trigger(&first.uuid).await.unwrap_err();
    assert_eq!(fault.message, "prepare fails in rollback");
    let second = world.jobs().await.remove(0);
    assert_eq!(second.attempts, 1);
    assert_eq!(second.create_time, first.create_time);
    let due =
        |job: &GcJob| job.due_time.unwrap().seconds - job.last_operation_time.unwrap().seconds;
    assert!(due(&second) > due(&first), "{first:?} {second:?}");
    world.gc().trigger(&first.uuid).await.unwrap();
    world.assert_nothing_left().await;
    // Each attempt makes calls of its own.
    let task = TaskUuid::of_step(first.uuid.parse().unwrap(), "prepare", "rollback");
    let keys = world.outside.keys.lock().unwrap().clone();
    for attempt in ["", "/1", "/2", "/1/0", "/1/1", "/1/2", "/2/0"] {
        let key = format!("{task}{attempt}");
        assert_eq!(keys.iter().filter(|k| **k == key).count(), 1, "{key}");
    }
}

async fn a_job_survives_death_at_every_point_of_every_step(database: Database) {
    for step in ["prepare", "allocate"] {
        for point in [Point::AfterIntent, Point::AfterEffect, Point::AfterOutcome] {
            let world = World::with_a_job(database, None).await;
            // The process that tries the job is another one, which stops there.
            let hold = Hold::at(point, step, Direction::Rollback);
            let world = world.restart_held(hold.clone()).await;
            world.let_time_pass().await;
            let mut collector = JoinSet::new();
            collector.spawn(world.gc().run(CancellationToken::new()));
            hold.reached().await;
            drop(collector);
            let world = world.restart(Shape::default()).await;
            // It may have been the last thing that was to be done.
            world.let_time_pass().await;
            world.collect().await;
            world.assert_nothing_left().await;
        }
    }
}

async fn who_waits_for_a_host_is_due_when_it_is_back(database: Database) {
    let world = World::with(database, Shape::default(), None).await;
    *world.outside.unreachable.lock().unwrap() = Some("h-1");
    world.outside.fail("record", Direction::Run, 1);
    // It is not tried again before the host is back.
    world.outside.fail("prepare", Direction::Rollback, 1);
    world.result().await.unwrap_err();
    let job = world.jobs().await.remove(0);
    assert_eq!(job.waits_for_type.as_deref(), Some("host"));
    assert_eq!(job.waits_for_uuid.as_deref(), Some("h-1"));
    for host in ["h-2", "h-1"] {
        let woken = world
            .store
            .write(move |tx| Box::pin(async move { wake(tx, "host", host).await }));
        woken.await.unwrap();
        let now = world.jobs().await.remove(0);
        assert_eq!(now.due_time != job.due_time, host == "h-1");
    }
    world.collect().await;
    world.assert_nothing_left().await;
}

async fn an_operation_stays_as_long_as_its_job(database: Database) {
    let world = World::with_a_job(database, None).await;
    assert_eq!(world.operations.purge(Duration::ZERO).await.unwrap(), 0);
    let job = world.jobs().await.remove(0);
    world.gc().trigger(&job.uuid).await.unwrap();
    assert_eq!(world.operations.purge(Duration::ZERO).await.unwrap(), 1);
}

async fn a_job_that_is_given_up_changes_nothing_any_more(database: Database) {
    let hold = Hold::at(Point::AfterEffect, "allocate", Direction::Rollback);
    let world = World::with_a_job(database, Some(hold.clone())).await;
    let (uuid, _) = world.call().await;
    let gc = world.gc();
    let mut trying = JoinSet::new();
    trying.spawn(async move { gc.trigger(&uuid.to_string()).await });
    hold.reached().await;
    let given_up = world
        .store
        .write(|tx| Box::pin(async move { tx.execute("DELETE FROM gc_job", vec![]).await }));
    given_up.await.unwrap();
    hold.let_go();
    let tried = trying.join_next().await.unwrap().unwrap();
    tried.unwrap();
    assert_eq!(world.taken().await, ["allocate"]);
    let missing = world.gc().trigger(&uuid.to_string()).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
}

async fn a_job_is_tried_once_at_a_time(database: Database) {
    let hold = Hold::at(Point::AfterEffect, "allocate", Direction::Rollback);
    let world = World::with_a_job(database, Some(hold.clone())).await;
    let (uuid, _) = world.call().await;
    let gc = world.gc();
    let other = gc.clone();
    let mut trying = JoinSet::new();
    trying.spawn(async move { other.trigger(&uuid.to_string()).await });
    hold.reached().await;
    // The second one waits for the first, and then has nothing to do.
    let text = uuid.to_string();
    let mut second = std::pin::pin!(gc.trigger(&text));
    assert!(futures::poll!(second.as_mut()).is_pending());
    hold.let_go();
    let tried = trying.join_next().await.unwrap().unwrap();
    tried.unwrap();
    match second.await {
        Ok(job) => assert_eq!(job.uuid, text),
        // It had not even read the job.
        Err(fault) => assert_eq!(fault.code, ErrorCode::NotFound),
    }
    world.assert_nothing_left().await;
}

async fn what_has_not_ended_has_left_nothing(database: Database) {
    let hold = Hold::at(Point::AfterOutcome, "prepare", Direction::Run);
    let world = World::with(database, Shape::default(), Some(hold.clone())).await;
    let (uuid, result) = world.call().await;
    hold.reached().await;
    let refused = world.operations.resume(uuid, 1).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    hold.let_go();
    result.await.unwrap();
    // One that ended with nothing left is not run again.
    world.operations.resume(uuid, 1).await.unwrap();
    world.assert_all_done().await;
}
