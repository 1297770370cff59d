//! The simulator's own process, with its controls.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
};

use crate::cloud::{Cloud, head, volume};
use cairn_agent_protocol::{CommandErrorCode, Connect};
use cairn_boot::{
    Spanned,
    telemetry::{self, TelemetryConfig},
};
use cairn_testkit::{Collector, Exported};
use cairn_types::HostUuid;

struct Child {
    process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    fn start(dir: &Path, otlp_endpoint: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cairn-simulator"))
            .arg("--dir")
            .arg(dir)
            .args(["--keep-vms", "--otlp-endpoint", otlp_endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            input,
            output,
        }
    }

    async fn line(&mut self) -> Value {
        serde_json::from_str(&self.output.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn ask(&mut self, request: Value) -> Value {
        self.input
            .write_all(format!("{request}\n").as_bytes())
            .await
            .unwrap();
        self.line().await
    }

    async fn listening(&mut self) -> SocketAddr {
        self.line().await["listening"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Asks it to stop, as a service manager does.
    async fn stop(mut self) {
        drop(self.input);
        let pid = self.process.id().unwrap().to_string();
        let killed = Command::new("kill").arg(pid).status().await.unwrap();
        assert!(killed.success());
        assert!(self.process.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn the_process_is_controlled_by_its_input_and_keeps_its_hosts() {
    let collector = Collector::start().await;
    let at = 0..0;
    let telemetry = telemetry::start(&TelemetryConfig {
        log: Spanned::new(at.clone(), "warn".to_owned()),
        otlp_endpoint: Some(Spanned::new(at, collector.endpoint())),
        service_name: "node".to_owned(),
        ..TelemetryConfig::default()
    })
    .unwrap();
    let cloud = Cloud::new().await;
    let mut child = Child::start(&cloud.agent_dir(), &collector.endpoint());
    let address = child.listening().await;
    let host = HostUuid::generate();
    let size = json!({"cpu_count": 3, "memory_bytes": 5});
    let added = child
        .ask(json!({"add-host": {"host": host, "size": size}}))
        .await;
    let signed = cloud
        .ca
        .sign_host(added["csr"].as_str().unwrap(), host)
        .unwrap();
    cloud
        .registry
        .fingerprints
        .lock()
        .unwrap()
        .insert(host, signed.fingerprint);
    cloud.agents.set_address(host, address);
    let install = json!({
        "host": host,
        "certificate": signed.certificate_pem,
        "caCertificate": cloud.ca.pem(),
        "callbackAddresses": [format!("https://{}", cloud.callback)],
    });
    assert_eq!(
        child.ask(json!({"install": install})).await,
        json!({"installed": host})
    );
    cloud.heard_of(host, 1).await;

    let fault = json!({
        "command": "connect",
        "times": 1,
        "effect": {"fail": {"code": "failed", "message": "no"}},
    });
    assert_eq!(
        child.ask(json!({"fault": fault})).await,
        json!({"fault": 1})
    );
    let failed = head();
    assert_eq!(
        cloud.done(host, failed, Connect {}).await,
        Err(CommandErrorCode::Failed)
    );
    assert_eq!(
        child.ask(json!({"release": 1})).await,
        json!({"released": true})
    );
    assert_eq!(
        cloud
            .done(host, head(), Connect {})
            .await
            .unwrap()
            .cpu_count,
        3
    );
    let made = volume();
    cloud.done(host, head(), made.clone()).await.unwrap();

    let listed = child.ask(json!({"list": "commands"})).await;
    let commands = listed["commands"].as_array().unwrap();
    let names: Vec<_> = commands.iter().map(|record| &record["command"]).collect();
    assert_eq!(names, ["connect", "connect", "create-volume"]);
    assert_eq!(commands[0]["task"], json!(failed.task));
    assert!(child.ask(json!({"dance": {}})).await["error"].is_string());
    child.stop().await;

    let mut child = Child::start(&cloud.agent_dir(), &collector.endpoint());
    cloud.agents.set_address(host, child.listening().await);
    cloud.heard_of(host, 2).await;
    let hosts = child.ask(json!({"list": "hosts"})).await;
    assert!(
        hosts["hosts"][0]["volumes"][made.volume.to_string()].is_object(),
        "{hosts}"
    );
    child.stop().await;

    // Both processes sent what they had when they stopped.
    telemetry.shutdown().await;
    let task_of = |span: &Exported| {
        let task = span.fields.iter().find(|(name, _)| name == "task");
        task.is_some_and(|(_, task)| *task == failed.task.to_string())
    };
    let spans = collector.wait_for(Duration::ZERO, |_| true).await;
    let of = |name| spans.iter().find(|s| s.name == name && task_of(s)).unwrap();
    let (command, task) = (of("command"), of("task"));
    assert_eq!(
        (&*command.service, &*task.service),
        ("node", "cairn-simulator")
    );
    assert_eq!((&task.trace, &task.parent), (&command.trace, &command.id));
}
