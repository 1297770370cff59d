//! One call is one trace, from the client through the node to the host.

use std::{fs::OpenOptions, io::Write as _, time::Duration};

use cairn_boot::{
    Spanned,
    telemetry::{self, TelemetryConfig},
};
use cairn_e2e::{Access, Cloud, HeldNode};
use cairn_proto::{
    compute::v1alpha1::{
        ReconnectHostRequest, host_service_client::HostServiceClient,
        vm_instance_service_client::VmInstanceServiceClient,
    },
    event::result,
};
use cairn_testkit::{Collector, Exported};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

/// How long a test waits for spans that a process sends every few seconds.
const EXPORT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_one_trace_from_the_client_to_the_host() {
    let collector = Collector::start().await;
    // The hosts' agent runs in this process.
    let at = 0..0;
    let telemetry = telemetry::start(&TelemetryConfig {
        log: Spanned::new(at.clone(), "warn".to_owned()),
        otlp_endpoint: Some(Spanned::new(at, collector.endpoint())),
        service_name: "agent".to_owned(),
        ..TelemetryConfig::default()
    })
    .unwrap();
    let mut cloud = Cloud::prepare().await;
    let _node = start(&mut cloud, &collector, None).await;
    let site = cloud.site(1).await;

    let (access, request) = traced(
        &cloud,
        ReconnectHostRequest {
            uuid: site.hosts[0].uuid.clone(),
        },
    );
    let mut hosts = HostServiceClient::new(access.channel());
    let events = hosts.reconnect_host(request).await.unwrap().into_inner();
    result(events).await.unwrap();

    telemetry.shutdown().await;
    let spans = collector.wait_for(EXPORT, |spans| {
        find(spans, "call", CLIENT).is_some() && spans.iter().any(|s| is(s, "operation"))
    });
    let spans = spans.await;
    let under = |name, parent: &str| {
        find(&spans, name, parent).unwrap_or_else(|| panic!("no {name} under {parent}: {spans:#?}"))
    };
    let call = under("call", CLIENT);
    let operation = under("operation", &call.id);
    under("queue", &operation.id);
    let command = under("command", &operation.id);
    let task = under("task", &command.id);
    for span in [call, operation, command] {
        assert_eq!(span.service, "node", "{span:?}");
    }
    assert_eq!(task.service, "agent");
    let method = "/cairn.compute.v1alpha1.HostService/ReconnectHost";
    assert_eq!(field(call, "method"), method);
    assert_eq!(field(operation, "method"), method);
    assert_eq!(field(task, "command"), "connect");
    assert_eq!(field(task, "task"), field(command, "task"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_taken_up_after_a_kill_belongs_to_the_trace_of_its_call() {
    let collector = Collector::start().await;
    let mut cloud = Cloud::prepare().await;
    let place = "AfterIntent create-vm-instance allocate-volume run";
    let mut node = start(&mut cloud, &collector, Some(place)).await;
    let ready = cloud.ready(1).await;
    let (access, request) = traced(&cloud, ready.vm_request("web"));
    let mut vms = VmInstanceServiceClient::new(access.channel());
    let events = vms.create_vm_instance(request).await.unwrap();
    assert_eq!(node.held().await.held, place);
    node.kill().await;
    drop(events);

    let _node = start(&mut cloud, &collector, None).await;
    let has_run = |spans: &[Exported]| {
        let mut operations = spans.iter().filter(|span| is(span, "operation"));
        let creation = "/cairn.compute.v1alpha1.VmInstanceService/CreateVmInstance";
        operations
            .find(|span| field(span, "method") == creation)
            .cloned()
    };
    let spans = collector.wait_for(EXPORT, |spans| has_run(spans).is_some());
    let spans = spans.await;
    let operation = has_run(&spans).unwrap();
    let steps = spans.iter().filter(|span| is(span, "step"));
    let steps: Vec<_> = steps
        .filter(|span| span.parent == operation.id)
        .map(|span| field(span, "step"))
        .collect();
    // Those before were done by the process that was killed.
    let after = [
        "allocate-volume",
        "allocate-nic",
        "instantiate-pre",
        "create-on-hypervisor",
        "instantiate-post",
    ];
    assert_eq!(steps, after, "{spans:#?}");
    let step = find(&spans, "step", &operation.id).unwrap();
    assert!(
        find(&spans, "call", &step.id).is_some(),
        "what a step calls is under it: {spans:#?}"
    );
}

/// A node that sends its spans to the collector, every few seconds.
async fn start(cloud: &mut Cloud, collector: &Collector, hold: Option<&str>) -> HeldNode {
    let config = cloud.config_file();
    let mut file = OpenOptions::new().append(true).open(&config).unwrap();
    let endpoint = collector.endpoint();
    writeln!(
        file,
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\nservice_name = \"node\""
    )
    .unwrap();
    let node = HeldNode::start(env!("CARGO_BIN_EXE_held-node"), &config, hold).await;
    cloud.keep_ports(node.public, node.callback);
    node
}

/// A request of the administrator's in the trace of a client.
fn traced<M>(cloud: &Cloud, message: M) -> (Access, tonic::Request<M>) {
    let access = Access::read(&cloud.credential_file());
    let mut request = tonic::Request::new(message);
    let bearer = format!("Bearer {}", access.token.as_deref().unwrap_or_default());
    let metadata = request.metadata_mut();
    metadata.insert("authorization", bearer.parse().unwrap());
    let traceparent = format!("00-{TRACE}-{CLIENT}-01");
    metadata.insert("traceparent", traceparent.parse().unwrap());
    (access, request)
}

fn is(span: &Exported, name: &str) -> bool {
    span.trace == TRACE && span.name == name
}

fn find<'a>(spans: &'a [Exported], name: &str, parent: &str) -> Option<&'a Exported> {
    let mut spans = spans.iter();
    spans.find(|span| is(span, name) && span.parent == parent)
}

fn field<'a>(span: &'a Exported, name: &str) -> &'a str {
    let field = span.fields.iter().find(|(field, _)| field == name);
    field.map_or("", |(_, value)| value)
}
