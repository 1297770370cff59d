//! Who is refused, at either listener.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cloud::{Cloud, credentials, head, http, only, without_certificate};
use cairn_agent::{AgentError, Agents, Head};
use cairn_agent_protocol::{Connect, Moment, Outcome, OutcomeReport};
use cairn_agent_runtime::RuntimeError;
use cairn_simulator::FaultEffect;
use cairn_tls::{Ca, Credentials, Identity, generate_key_and_request};
use cairn_types::{Coded as _, ErrorCode, HostUuid, OperationUuid, Uuid};

#[tokio::test]
async fn a_host_speaks_for_itself_only() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let (host, other) = (
        cloud.add_host(&process).await,
        cloud.add_host(&process).await,
    );
    let report = |host, task| OutcomeReport {
        task,
        operation: OperationUuid::generate(),
        host,
        began: Moment::start(Uuid::nil()),
        outcome: Outcome::Ok(Value::Null),
    };
    let send = async |credentials: &Credentials, report: &OutcomeReport| {
        let url = format!("https://{}/v1/outcomes", cloud.callback);
        http(credentials, &[])
            .post(url)
            .json(report)
            .send()
            .await
            .unwrap()
            .status()
    };
    let made = generate_key_and_request(other).unwrap();
    let signed = cloud.ca.sign_host(&made.request_pem, other).unwrap();
    cloud
        .registry
        .fingerprints
        .lock()
        .unwrap()
        .insert(other, signed.fingerprint);
    let attacker = Credentials {
        certificate_pem: signed.certificate_pem,
        key_pem: made.key_pem,
        ca_pem: cloud.ca.pem().to_owned(),
    };

    process.simulator.inject(only(host, 1, FaultEffect::Hold));
    let head = Head {
        timeout: Duration::from_secs(5),
        ..head()
    };
    let changed = async |host| {
        let url = format!("https://{}/v1/changed", cloud.callback);
        let body = serde_json::json!({ "host": host });
        let post = http(&attacker, &[]).post(url).json(&body).send();
        post.await.unwrap().status()
    };
    assert_eq!(changed(host).await, StatusCode::FORBIDDEN);
    assert!(cloud.registry.changed.borrow().is_empty());
    assert_eq!(changed(other).await, StatusCode::OK);
    let attack = async {
        process.began(head.task).await;
        // As the other host: not its certificate. As itself: not its task.
        assert_eq!(
            send(&attacker, &report(host, head.task)).await,
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            send(&attacker, &report(other, head.task)).await,
            StatusCode::SERVICE_UNAVAILABLE
        );
        let hello = json!({
            "host": host, "agent_incarnation": Uuid::nil(), "boot_id": "b", "running": [],
        });
        let url = format!("https://{}/v1/hello", cloud.callback);
        let answer = http(&attacker, &[])
            .post(url)
            .json(&hello)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        // A certificate that was replaced, and a node's.
        let earlier = credentials(&cloud.ca, Identity::Host(other));
        assert_eq!(
            send(&earlier, &report(other, head.task)).await,
            StatusCode::FORBIDDEN
        );
        let node = credentials(&cloud.ca, Identity::Node(Uuid::new_v4()));
        assert_eq!(
            send(&node, &report(host, head.task)).await,
            StatusCode::FORBIDDEN
        );
    };
    tokio::select! {
        _ = cloud.call(host, head, Connect {}) => panic!("the task was ended by another host"),
        () = attack => {}
    }
}

#[tokio::test]
async fn an_agent_serves_nodes_only_and_its_own_hosts_only() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let resolve = [(host, process.address)];
    let name = Identity::Host(host).dns_name();
    let url = format!("https://{name}:{}/v1/ping", process.address.port());

    let nobody = reqwest::Client::builder()
        .tls_backend_preconfigured(without_certificate(&cloud.ca))
        .resolve(&name, process.address)
        .no_proxy()
        .build()
        .unwrap();
    assert!(nobody.get(&url).send().await.is_err(), "no certificate");

    let other = credentials(&cloud.ca, Identity::Host(HostUuid::generate()));
    let status = http(&other, &resolve)
        .get(&url)
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, StatusCode::FORBIDDEN, "a host is no node");

    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Ca::load_or_create(elsewhere.path()).unwrap();
    let foreign = Credentials {
        ca_pem: cloud.ca.pem().to_owned(),
        ..credentials(&foreign, Identity::Node(Uuid::new_v4()))
    };
    assert!(
        http(&foreign, &resolve).get(&url).send().await.is_err(),
        "a node of another cloud"
    );

    let node = credentials(&cloud.ca, Identity::Node(Uuid::new_v4()));
    assert!(
        http(&node, &resolve)
            .get(&url)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let mut http1 = cairn_tls::client(&node).unwrap();
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http1 = reqwest::Client::builder()
        .tls_backend_preconfigured(http1)
        .resolve(&name, process.address)
        .no_proxy()
        .build()
        .unwrap();
    let stranger = Identity::Host(HostUuid::generate()).dns_name();
    let misdirected = http1
        .get(&url)
        .header("host", stranger)
        .send()
        .await
        .unwrap();
    assert_eq!(misdirected.status(), StatusCode::MISDIRECTED_REQUEST);
    let unknown = HostUuid::generate();
    cloud.agents.set_address(unknown, process.address);
    let refused = cloud.agents.ping(unknown).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::AgentUnreachable);
}

#[tokio::test]
async fn enrolment_is_for_the_hosts_own_key_and_one_cloud() {
    let cloud = Cloud::new().await;
    let process = cloud.start().await;
    let host = cloud.add_host(&process).await;
    let another = HostUuid::generate();
    let enrollment = cloud.enroll(&process, another).await;
    let wrong = process.server.install(host, enrollment.clone()).await;
    assert!(
        matches!(wrong, Err(RuntimeError::Certificate { .. })),
        "{wrong:?}"
    );
    let no_key = process
        .server
        .install(HostUuid::generate(), enrollment)
        .await;
    assert!(matches!(no_key, Err(RuntimeError::NoKey(_))), "{no_key:?}");

    let elsewhere = Cloud::new().await;
    let foreign = elsewhere.enroll(&process, another).await;
    let refused = process.server.install(another, foreign).await;
    assert!(
        matches!(refused, Err(RuntimeError::OtherCloud(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_agent_that_is_away_is_unreachable() {
    let cloud = Cloud::new().await;
    let host = HostUuid::generate();
    let missing = cloud.call(host, head(), Connect {}).await.unwrap_err();
    assert!(matches!(missing, AgentError::NoAddress(_)));
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    cloud.agents.set_address(host, free);
    let options = cairn_agent::Options {
        unreachable_after: Duration::from_millis(10),
        ..cairn_agent::Options::new(Vec::new())
    };
    let node = credentials(&cloud.ca, Identity::Node(Uuid::new_v4()));
    let agents = Agents::new(options, &node).unwrap();
    agents.set_address(host, free);
    let error = agents.call(host, head(), &Connect {}).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AgentUnreachable, "{error}");
}
