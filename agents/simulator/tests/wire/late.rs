//! What comes late: commands that were overtaken, and outcomes of an earlier time.

use reqwest::StatusCode;

use crate::{
    cloud::{Cloud, head, http, impatient},
    network::{Network, credentials_of},
};
use cairn_agent::Head;
use cairn_agent_protocol::{Connect, Outcome, OutcomeReport};
use cairn_simulator::{Fault, FaultEffect, Simulator};
use cairn_types::HostUuid;

/// Reports a task's outcome as the host, and gives the node's answer.
async fn report_of(cloud: &Cloud, host: HostUuid, head: Head) -> StatusCode {
    let report = OutcomeReport {
        task: head.task,
        operation: head.operation,
        host,
        outcome: Outcome::Ok(serde_json::Value::Null),
    };
    let url = format!("https://{}/v1/outcomes", cloud.callback);
    let client = http(&credentials_of(cloud, host), &[]);
    let answer = client.post(url).json(&report).send().await.unwrap();
    answer.status()
}

/// As after a crash between an effect and its commit: the agent reports the outcome on its own while
/// the command that comes again is still on its way.
#[tokio::test]
async fn an_outcome_of_an_earlier_time_does_not_double_a_command_under_way() {
    let cloud = Cloud::new().await;
    let process = cloud
        .process(Simulator::default(), impatient(&cloud.agent_dir()))
        .await;
    let host = cloud.add_host(&process).await;
    let network = Network::before(&cloud, &process, host).await;
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
