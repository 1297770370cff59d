//! What comes late: commands that were overtaken, and outcomes of an earlier time.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use reqwest::StatusCode;

use crate::{
    cloud::{Cloud, Process, head, http, impatient, node, only, options},
    network::{Network, credentials_of},
};
use cairn_agent::Head;
use cairn_agent_protocol::{CommandErrorCode, Connect, Moment, Outcome, OutcomeReport};
use cairn_simulator::{Fault, FaultEffect, Simulator};
use cairn_types::{HostUuid, Uuid};

/// Reports a task's outcome as the host, and gives the node's answer.
async fn report_of(cloud: &Cloud, host: HostUuid, head: Head) -> StatusCode {
    let report = OutcomeReport {
        task: head.task,
        operation: head.operation,
        host,
        began: Moment::start(Uuid::nil()),
        outcome: Outcome::Ok(serde_json::Value::Null),
    };
    let url = format!("https://{}/v1/outcomes", cloud.callback);
    let client = http(&credentials_of(cloud, host), &[]);
    let answer = client.post(url).json(&report).send().await.unwrap();
    answer.status()
}

/// A host that the node reaches through a network that delivers late, and whose agent reports again
/// at once.
async fn behind_a_network() -> (Cloud, Process, HostUuid, Network) {
    let cloud = Cloud::new().await;
    let process = cloud
        .process(Simulator::default(), impatient(&cloud.agent_dir()))
        .await;
    let host = cloud.add_host(&process).await;
    let network = Network::before(&cloud, &process, host).await;
    (cloud, process, host, network)
}

/// Runs a task that fails, and whose agent does not hear that its failure is committed, nor anything
/// else until answers arrive again.
async fn fails_unheard(cloud: &Cloud, process: &Process, host: HostUuid, head: Head) {
    let fail = FaultEffect::Fail {
        code: CommandErrorCode::Failed,
        message: "the disk is on fire".to_owned(),
    };
    process.simulator.inject(only(host, 1, fail));
    cloud.registry.answers_lost.store(true, Ordering::SeqCst);
    let failed = cloud.done(host, head, Connect {}).await;
    assert_eq!(failed, Err(CommandErrorCode::Failed));
}

/// As after a crash between an effect and its commit: the agent reports the outcome on its own while
/// the command that comes again is still on its way.
#[tokio::test]
async fn an_outcome_of_an_earlier_time_does_not_double_a_command_under_way() {
    let (cloud, process, host, network) = behind_a_network().await;
    let head = head();
    let silent = process.simulator.inject(Fault {
        host: Some(host),
        ..Fault::new(FaultEffect::LoseReport)
    });
    cloud.left_behind(&process, host, head).await;

    // The command comes again and is held on its way; meanwhile the agent reports by itself.
    let taken = network.hold();
    let again = cloud.call(host, head, Connect {});
    tokio::pin!(again);
    let reported = async {
        network.took_more_than(taken).await;
        let mut callbacks = cloud.registry.callbacks.subscribe();
        let before = *callbacks.borrow();
        process.simulator.release(silent);
        callbacks.wait_for(|count| *count > before).await.unwrap();
        // Of no task that anybody knows, and answered after the agent's own was handed on.
        let other = report_of(&cloud, host, self::head()).await;
        assert_eq!(other, StatusCode::SERVICE_UNAVAILABLE);
    };
    let ended = tokio::select! {
        biased;
        ended = &mut again => Some(ended),
        () = reported => None,
    };
    let again = match ended {
        Some(ended) => {
            // The command is still held: the task must not run when it arrives.
            ended.unwrap().ack.committed();
            cloud.has_forgotten_all(host).await;
            network.let_go();
            None
        }
        None => {
            network.let_go();
            Some(again.await.unwrap())
        }
    };
    if let Some(again) = again {
        assert!(again.reply.is_ok());
        again.ack.committed();
    }
    // Commands of one resource run in the order in which they came.
    let after = Head {
        resource: head.resource,
        ..self::head()
    };
    cloud.done(host, after, Connect {}).await.unwrap();
    assert_eq!(process.runs_of(head.task).len(), 1);
}

fn refused(answer: &StatusCode) -> bool {
    *answer == StatusCode::PRECONDITION_FAILED
}

/// As if each had been sent twice, and the one that was late had waited in a buffer until nobody
/// remembers the task: before and after the agent started anew.
#[tokio::test]
async fn a_duplicate_that_comes_when_its_task_is_forgotten_does_nothing() {
    let (cloud, process, host, network) = behind_a_network().await;
    let (first, other) = (head(), head());
    let second = Head {
        resource: first.resource,
        ..head()
    };
    for head in [first, second, other] {
        cloud.done(host, head, Connect {}).await.unwrap();
    }
    cloud.has_forgotten_all(host).await;
    let late = network.deliver_again().await;
    assert!(late.len() >= 3 && late.iter().all(refused), "{late:?}");

    let simulator = process.stop().await;
    let process = cloud
        .process(simulator, impatient(&cloud.agent_dir()))
        .await;
    cloud.heard_of(host, 2).await;
    network.leads_to(&process);
    let late = network.deliver_again().await;
    assert!(late.len() >= 3 && late.iter().all(refused), "{late:?}");
    // Whoever is alive is served all the same.
    cloud.done(host, second, Connect {}).await.unwrap();
    for (head, runs) in [(first, 1), (second, 2), (other, 1)] {
        assert_eq!(process.runs_of(head.task).len(), runs);
    }
}

/// The creation is given up while it is still on its way, and what it would have made is taken away.
#[tokio::test]
async fn a_command_that_was_overtaken_by_its_rollback_does_nothing() {
    let (cloud, process, host, network) = behind_a_network().await;
    let run = head();
    let rollback = Head {
        resource: run.resource,
        ..head()
    };
    let taken = network.hold();
    tokio::select! {
        _ = cloud.call(host, run, Connect {}) => panic!("it is held"),
        () = network.took_more_than(taken) => {}
    }
    cloud.agents.set_address(host, process.address);
    cloud.done(host, rollback, Connect {}).await.unwrap();
    // What is delivered again comes behind what was held.
    network.let_go();
    let late = network.deliver_again().await;
    assert!(late.iter().all(refused), "{late:?}");
    assert!(process.runs_of(run.task).is_empty());
}

#[tokio::test]
async fn a_node_that_has_heard_nothing_of_a_host_is_told_and_goes_on() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let (second, registry, _callback, _tasks) = node(&cloud.ca).await;
    let known = cloud.registry.fingerprints.lock().unwrap().clone();
    registry.fingerprints.lock().unwrap().extend(known);
    second.set_address(host, process.address);
    let resource = head().resource;
    for agents in [&cloud.agents, &second, &cloud.agents] {
        let head = Head { resource, ..head() };
        let delivered = agents.call(host, head, &Connect {}).await.unwrap();
        assert!(delivered.reply.is_ok());
        delivered.ack.committed();
        assert_eq!(process.runs_of(head.task).len(), 1);
    }
}

/// Each that is taken, or forgotten, is news to the others.
#[tokio::test]
async fn many_commands_of_one_resource_are_not_sent_over_and_over() {
    const COMMANDS: usize = 100;
    let (cloud, process, host, network) = behind_a_network().await;
    let resource = head().resource;
    let all = (0..COMMANDS).map(|_| {
        let head = Head { resource, ..head() };
        cloud.done(host, head, Connect {})
    });
    for done in join_all(all).await {
        done.unwrap();
    }
    assert_eq!(process.simulator.records().len(), COMMANDS);
    // One refusal at most for each that was forgotten, and one to begin with.
    let sent = network.taken();
    assert!(sent <= 2 * COMMANDS + 1, "{sent}");
}

#[tokio::test]
async fn a_task_that_failed_and_is_tried_again_is_not_given_the_failure_again() {
    let cloud = Cloud::new().await;
    let process = cloud
        .process(Simulator::default(), options(&cloud.agent_dir()))
        .await;
    let host = cloud.add_host(&process).await;
    let head = head();
    fails_unheard(&cloud, &process, host, head).await;
    // The agent has not heard that this is committed: it has the failure still.
    cloud.registry.answers_lost.store(false, Ordering::SeqCst);
    cloud.done(host, head, Connect {}).await.unwrap();
    assert_eq!(process.runs_of(head.task).len(), 2);
    cloud.has_forgotten_all(host).await;
}

/// The agent reports the failure again while the second attempt is on its way.
#[tokio::test]
async fn a_failure_that_is_reported_again_does_not_end_the_next_attempt() {
    let (cloud, process, host, network) = behind_a_network().await;
    let head = head();
    fails_unheard(&cloud, &process, host, head).await;
    let taken = network.hold();
    let again = cloud.done(host, head, Connect {});
    let reported = async {
        network.took_more_than(taken).await;
        cloud.registry.answers_lost.store(false, Ordering::SeqCst);
        cloud.has_forgotten_all(host).await;
        network.let_go();
    };
    let (again, ()) = tokio::join!(again, reported);
    again.unwrap();
    assert_eq!(process.runs_of(head.task).len(), 2);
}
