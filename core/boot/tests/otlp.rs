//! Traces reach a collector: a span that ended before the shutdown is there after it.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};
use tracing::info_span;

use cairn_boot::{
    OnFailure, Spanned, Tasks, propagation,
    telemetry::{self, TelemetryConfig},
};

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = self.0.send(request.into_inner());
        sent.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn a_span_arrives_with_its_service_and_its_remote_parent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut received) = mpsc::unbounded_channel();
    let mut incoming = Some((TcpIncoming::from(listener), sender));
    let tasks = Tasks::new();
    tasks.start("collector", OnFailure::StopProcess, move |stop| {
        let (incoming, sender) = incoming.take().unwrap();
        Server::builder()
            .add_service(TraceServiceServer::new(Collector(sender)))
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
    });

    let config = TelemetryConfig {
        log: Spanned::new(0..0, "off".to_owned()),
        otlp_endpoint: Some(Spanned::new(0..0, endpoint)),
        service_name: "boot-test".to_owned(),
        ..TelemetryConfig::default()
    };
    let telemetry = telemetry::start(&config).unwrap();
    assert!(
        telemetry::start(&TelemetryConfig::default()).is_err(),
        "a second start"
    );
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let span = info_span!("call");
    propagation::set_parent(&span, &format!("00-{trace}-00f067aa0ba902b7-01"));
    let traceparent = span.in_scope(propagation::current_traceparent).unwrap();
    drop(span);
    telemetry.shutdown().await;

    let request = received.recv().await.unwrap();
    let resource = format!("{:?}", request.resource_spans[0].resource);
    assert!(
        resource.contains("service.name") && resource.contains("boot-test"),
        "{resource}"
    );
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(span.name, "call");
    assert_eq!(traceparent, format!("00-{trace}-{}-01", hex(&span.span_id)));
    assert_eq!(hex(&span.trace_id), trace);
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(tasks.shutdown(Duration::from_secs(60)).await, Ok(()));
}
