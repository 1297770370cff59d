//! Traces reach a collector: a span that ended before the shutdown is there after it.

use std::time::Duration;

use tracing::info_span;

use cairn_boot::{
    Spanned, propagation,
    telemetry::{self, TelemetryConfig},
};
use cairn_testkit::Collector;

#[tokio::test]
async fn a_span_arrives_with_its_service_and_its_remote_parent() {
    let collector = Collector::start().await;
    let config = TelemetryConfig {
        log: Spanned::new(0..0, "off".to_owned()),
        otlp_endpoint: Some(Spanned::new(0..0, collector.endpoint())),
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

    let spans = collector.wait_for(Duration::ZERO, |spans| spans.len() == 1);
    let span = &spans.await[0];
    assert_eq!(span.service, "boot-test");
    assert_eq!(span.name, "call");
    assert_eq!(traceparent, format!("00-{trace}-{}-01", span.id));
    assert_eq!(span.trace, trace);
    assert_eq!(span.parent, "00f067aa0ba902b7");
}
