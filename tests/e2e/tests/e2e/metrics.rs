//! What a node counts, told to who has a credential.

use cairn_e2e::{Access, Cloud};
use cairn_proto::compute::v1alpha1::{GetHostRequest, HostClient};
use http::StatusCode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_told_to_who_has_a_credential() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    cloud.create_vm(&ready, "web").await.unwrap();
    let missing = GetHostRequest {
        uuid: cairn_types::Uuid::now_v7().to_string(),
    };
    let hosts = HostClient::new(cloud.mesh());
    hosts.get_host(missing).await.unwrap_err();

    let access = Access::read(&cloud.credential_file());
    for wrong in [None, Some("cairn-wrong".to_owned())] {
        let (status, body) = Access {
            token: wrong,
            ..access.clone()
        }
        .metrics()
        .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
        assert!(!body.contains("cairn_"), "{body}");
    }
    let (status, body) = access.metrics().await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"cairn_calls_total{code="NotFound",method="/cairn.compute.v1alpha1.HostService/GetHost"} "#,
        r#"cairn_calls_total{code="Ok",method="/cairn.compute.v1alpha1.ZoneService/CreateZone"} "#,
        r#"cairn_calls_total{code="Unauthenticated",method=""} "#,
        r#"cairn_call_duration_seconds_count{method="/cairn.compute.v1alpha1.ZoneService/CreateZone"} "#,
        r#"cairn_operations_accepted_total{method="/cairn.compute.v1alpha1.ZoneService/CreateZone"} "#,
        r#"cairn_operations_ended_total{method="/cairn.compute.v1alpha1.ZoneService/CreateZone",state="Succeeded"} "#,
        "cairn_flow_log_records_total ",
        "cairn_store_commits_total ",
        "cairn_operations_waiting ",
        "cairn_operations_running ",
        r#"cairn_flow_steps_total{direction="run",flow="create-vm-instance",outcome="ok",step="allocate-host"} "#,
        r#"cairn_agent_commands_total{command="connect",outcome="ok"} "#,
    ] {
        let found = body.lines().any(|found| found.starts_with(line));
        assert!(found, "{line} is not in\n{body}");
    }
}
