//! What becomes of a command and its outcome.

use std::time::Duration;

use crate::cloud::{Cloud, head, impatient, only, volume};
use cairn_agent::{AgentError, Head};
use cairn_agent_protocol::{CommandErrorCode, Connect, DestroyVm, StartVm, VmFacts};
use cairn_simulator::{FaultEffect, RecordOutcome, Simulator};
use cairn_types::{Coded as _, ErrorCode, Uuid};

#[tokio::test]
async fn a_command_runs_on_its_host_and_its_outcome_comes_back() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let (first, second) = (
        cloud.add_host(&process).await,
        cloud.add_host(&process).await,
    );
    for host in [first, second] {
        let facts = cloud.done(host, head(), Connect {}).await.unwrap();
        let pong = cloud.agents.ping(host).await.unwrap();
        assert_eq!(facts.agent_incarnation, pong.agent_incarnation);
        assert_eq!(facts.boot_id, pong.status.boot_id);
    }
    let root = cloud.done(first, head(), volume()).await.unwrap();
    let vm = Uuid::new_v4();
    let start = StartVm {
        vm,
        name: "web".to_owned(),
        cpu_count: 2,
        memory_bytes: 1 << 30,
        root_volume_path: root.path,
        nics: Vec::new(),
    };
    let VmFacts { pid } = cloud.done(first, head(), start.clone()).await.unwrap();
    assert!(pid.is_some());
    assert_eq!(
        cloud
            .done(first, head(), Connect {})
            .await
            .unwrap()
            .running_vms,
        [vm]
    );
    assert_eq!(
        cloud.done(second, head(), start.clone()).await,
        Err(CommandErrorCode::Failed)
    );
    // It ends with nobody asking: a node is told, and finds out with a ping what it was.
    assert!(process.simulator.end_vm(first, vm));
    assert!(!process.simulator.end_vm(first, vm), "it has ended");
    let mut changed = cloud.registry.changed.subscribe();
    let told = changed.wait_for(|hosts| !hosts.is_empty()).await.unwrap();
    assert_eq!(*told, [first]);
    let pong = cloud.agents.ping(first).await.unwrap();
    assert!(pong.status.running.is_empty());
    drop(told);
    assert_eq!(cloud.done(first, head(), DestroyVm { vm }).await, Ok(()));
    assert_eq!(
        cloud.done(first, head(), DestroyVm { vm }).await,
        Ok(()),
        "gone is a success"
    );
}

#[tokio::test]
async fn a_task_that_is_sent_twice_runs_once() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let hold = process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let head = head();
    let first = cloud.call(host, head, Connect {});
    let second = async {
        process.began(head.task).await;
        // Takes the outcome over from the first.
        let again = cloud.call(host, head, Connect {});
        let release = async {
            process.simulator.release(hold);
        };
        tokio::join!(again, release).0
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(AgentError::CalledAgain { .. })));
    let second = second.unwrap();
    second.ack.committed();
    assert!(second.reply.is_ok());
    assert_eq!(process.runs_of(head.task).len(), 1);
}

#[tokio::test]
async fn a_failure_is_an_outcome_and_so_is_a_panic() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let fail = FaultEffect::Fail {
        code: CommandErrorCode::Invalid,
        message: "the disk is on fire".to_owned(),
    };
    process.simulator.inject(only(host, 1, fail));
    let delivered = cloud.call(host, head(), Connect {}).await.unwrap();
    delivered.ack.committed();
    let error = delivered.reply.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (CommandErrorCode::Invalid, "the disk is on fire")
    );

    process.simulator.inject(only(host, 1, FaultEffect::Panic));
    assert_eq!(
        cloud.done(host, head(), Connect {}).await,
        Err(CommandErrorCode::Failed)
    );
    assert!(
        cloud.done(host, head(), Connect {}).await.is_ok(),
        "the agent goes on"
    );
}

#[tokio::test]
async fn a_command_has_a_time_limit() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let head = Head {
        timeout: Duration::from_millis(20),
        ..head()
    };
    assert_eq!(
        cloud.done(host, head, Connect {}).await,
        Err(CommandErrorCode::Timeout)
    );
    assert_eq!(
        process.runs_of(head.task)[0].outcome,
        Some(RecordOutcome::Dropped)
    );
}

#[tokio::test]
async fn commands_of_one_resource_run_one_at_a_time_and_others_do_not_wait() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let (first, other) = (head(), head());
    let second = Head {
        resource: first.resource,
        ..head()
    };
    let hold = process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let release = async {
        process.began(first.task).await;
        cloud.done(host, other, Connect {}).await.unwrap();
        assert!(process.runs_of(second.task).is_empty());
        process.simulator.release(hold);
    };
    let second_call = async {
        process.began(first.task).await;
        cloud.done(host, second, Connect {}).await
    };
    let (a, b, ()) = tokio::join!(cloud.done(host, first, Connect {}), second_call, release);
    assert!(a.is_ok() && b.is_ok());
    let (first, second) = (process.runs_of(first.task), process.runs_of(second.task));
    assert!(first[0].ended.unwrap() < second[0].started);
}

#[tokio::test]
async fn what_is_too_much_for_a_host_waits_or_is_refused() {
    let cloud = Cloud::with(|options| cairn_agent::Options {
        commands_at_once: 1,
        commands_waiting: 1,
        ..options
    })
    .await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let (first, second) = (head(), head());
    let hold = process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let mut runs = Box::pin(cloud.done(host, first, Connect {}));
    tokio::select! {
        _ = &mut runs => panic!("it is held"),
        () = process.began(first.task) => {}
    }
    let mut waits = Box::pin(cloud.done(host, second, Connect {}));
    tokio::select! {
        biased;
        _ = &mut waits => panic!("another one is under way"),
        () = std::future::ready(()) => {}
    }
    let refused = cloud.call(host, head(), Connect {}).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert!(refused.retry_after().is_some());
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    let expected = format!(
        "is full: 1 wait in it, as many as may, behind operation {}",
        first.operation
    );
    assert!(cause.contains(&expected), "{cause}");
    assert!(process.runs_of(second.task).is_empty());
    process.simulator.release(hold);
    let (first, second) = tokio::join!(runs, waits);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_lost_report_comes_when_the_task_is_sent_again() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    process
        .simulator
        .inject(only(host, 1, FaultEffect::LoseReport));
    let head = head();
    cloud.left_behind(&process, host, head).await;
    assert!(cloud.done(host, head, Connect {}).await.is_ok());
    assert_eq!(process.runs_of(head.task).len(), 1);
}

#[tokio::test]
async fn an_outcome_that_was_not_committed_is_kept() {
    let cloud = Cloud::new().await;
    let process = cloud
        .process(Simulator::default(), impatient(&cloud.agent_dir()))
        .await;
    let host = cloud.add_host(&process).await;
    let head = head();
    let delivered = cloud.call(host, head, Connect {}).await.unwrap();
    drop(delivered.ack);
    assert!(cloud.done(host, head, Connect {}).await.is_ok());
    assert_eq!(process.runs_of(head.task).len(), 1);
}

#[tokio::test]
async fn an_outcome_that_nobody_wants_is_forgotten_once_its_operation_has_ended() {
    let cloud = Cloud::new().await;
    let process = cloud
        .process(Simulator::default(), impatient(&cloud.agent_dir()))
        .await;
    let host = cloud.add_host(&process).await;
    let first = head();
    let delivered = cloud.call(host, first, Connect {}).await.unwrap();
    cloud.registry.ended.lock().unwrap().insert(first.operation);
    drop(delivered.ack);
    cloud.has_forgotten_all(host).await;
    // Forgotten: the same task runs anew, or gets the report that was under way.
    assert!(cloud.done(host, first, Connect {}).await.is_ok());
}
