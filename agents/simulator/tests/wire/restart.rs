//! What survives: results, tokens, tasks that are sent again.

use reqwest::StatusCode;
use tokio::net::TcpListener;

use crate::cloud::{Cloud, credentials, head, http, node, only, options, post, wait_until};
use cairn_agent::{AgentError, Head};
use cairn_agent_protocol::{CommandErrorCode, Connect};
use cairn_simulator::FaultEffect;
use cairn_tls::Identity;
use cairn_types::{Coded as _, ErrorCode, HostUuid, Uuid};

#[tokio::test]
async fn a_stale_token_is_refused_before_and_after_a_restart() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let new = Head { token: 7, ..head() };
    let old = Head {
        token: 6,
        resource: new.resource,
        ..head()
    };
    cloud.done(host, new, Connect {}).await.unwrap();
    let refused = cloud.call(host, old, Connect {}).await.unwrap_err();
    assert!(
        matches!(refused, AgentError::Refused { status: 409, .. }),
        "{refused}"
    );
    assert_eq!(refused.code(), ErrorCode::AgentFailed);

    let simulator = process.stop().await;
    let process = cloud.process(simulator, options(&cloud.agent_dir())).await;
    let refused = cloud.call(host, old, Connect {}).await.unwrap_err();
    assert!(
        matches!(refused, AgentError::Refused { status: 409, .. }),
        "{refused}"
    );
    assert!(process.runs_of(old.task).is_empty());
    assert!(
        cloud
            .done(
                host,
                Head {
                    token: 7,
                    resource: new.resource,
                    ..head()
                },
                Connect {}
            )
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_waiting_command_goes_stale_when_a_higher_token_comes() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let running = head();
    let waiting = Head {
        resource: running.resource,
        ..head()
    };
    let newer = Head {
        resource: running.resource,
        token: 2,
        ..head()
    };
    let hold = process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let node = http(
        &credentials(&cloud.ca, Identity::Node(Uuid::new_v4())),
        &[(host, process.address)],
    );
    let steer = async {
        process.began(running.task).await;
        // Posted without waiting for outcomes, so that the order of arrival is certain.
        assert_eq!(
            post(&node, &process, host, waiting).await,
            StatusCode::ACCEPTED
        );
        assert_eq!(
            post(&node, &process, host, newer).await,
            StatusCode::ACCEPTED
        );
        process.simulator.release(hold);
    };
    let (ran, ()) = tokio::join!(cloud.done(host, running, Connect {}), steer);
    assert!(ran.is_ok());
    process.began(newer.task).await;
    // The same task from the same owner is refused; from the new one it gets its old outcome.
    let renewed = Head {
        token: 2,
        ..waiting
    };
    assert_eq!(
        cloud.done(host, renewed, Connect {}).await,
        Err(CommandErrorCode::Stale)
    );
    assert!(process.runs_of(waiting.task).is_empty());
}

#[tokio::test]
async fn a_restart_keeps_results_and_repeats_what_it_lost() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    // One task has ended and its report was lost; another runs when the agent stops.
    process
        .simulator
        .inject(only(host, 1, FaultEffect::LoseReport));
    let kept = head();
    cloud.left_behind(&process, host, kept).await;
    let results = cloud.results_of(host);
    wait_until(|| std::fs::read_dir(&results).is_ok_and(|files| files.count() == 1)).await;
    process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let lost = head();
    let restart = async {
        process.began(lost.task).await;
        let simulator = process.stop().await;
        let process = cloud.process(simulator, options(&cloud.agent_dir())).await;
        cloud.heard_of(host, 2).await;
        let reply = cloud.done(host, kept, Connect {}).await;
        (process, reply)
    };
    let (repeated, (process, kept_reply)) =
        tokio::join!(cloud.done(host, lost, Connect {}), restart);
    assert!(repeated.is_ok());
    assert!(kept_reply.is_ok());
    assert_eq!(process.runs_of(kept.task).len(), 1);
    assert_eq!(process.runs_of(lost.task).len(), 2);
    wait_until(|| std::fs::read_dir(&results).is_ok_and(|files| files.count() == 0)).await;
    let hellos = cloud.registry.hellos.borrow().clone();
    assert_ne!(hellos[0].agent_incarnation, hellos[1].agent_incarnation);
}

#[tokio::test]
async fn every_node_hears_that_an_agent_started() {
    let cloud = Cloud::new().await;
    let (_agents, second, callback, _tasks) = node(&cloud.ca).await;
    let process = cloud.start().await;
    let host = HostUuid::generate();
    let mut enrollment = cloud.enroll(&process, host).await;
    let known = cloud.registry.fingerprints.lock().unwrap().clone();
    second.fingerprints.lock().unwrap().extend(known);
    // A node that is down keeps nobody from hearing it.
    let away = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [away, callback] {
        enrollment
            .callback_addresses
            .push(format!("https://{address}"));
    }
    process.server.install(host, enrollment).await.unwrap();
    cloud.heard_of(host, 1).await;
    second
        .hellos
        .subscribe()
        .wait_for(|hellos| !hellos.is_empty())
        .await
        .unwrap();
}
