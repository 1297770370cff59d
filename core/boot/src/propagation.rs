//! The trace that a call belongs to, carried from process to process as a W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>). There is no `tracestate`: nothing here reads one.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Whether traces are exported at all: when not, nothing here looks further.
pub(crate) static ENABLED: AtomicBool = AtomicBool::new(false);

/// The current span as a `traceparent`; none outside of a trace or when no traces are exported.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    if !ENABLED.load(Ordering::Relaxed) {
        return None;
    }
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// Makes the span a child of the one that the `traceparent` names. It has an effect before the
/// span is first entered. What is not a `traceparent` is passed over, as the standard demands.
pub fn set_parent(span: &Span, traceparent: &str) {
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    if let Some(parent) = parse(traceparent) {
        // It fails for a span that no trace takes up (filtered out, or already begun): no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Version 00, and what a later version must still begin with.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let mut part = |length: usize| {
        let part = parts.next()?;
        let hex = part
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && part.len() == length).then_some(part)
    };
    let version = part(2)?;
    let trace = TraceId::from_hex(part(32)?).ok()?;
    let span = SpanId::from_hex(part(16)?).ok()?;
    let flags = u8::from_str_radix(part(2)?, 16).ok()?;
    let over = parts.next().is_some();
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    let known = version != "ff" && !(version == "00" && over);
    (known && context.is_valid()).then_some(context)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{info_span, subscriber::with_default};
    use tracing_subscriber::{Registry, layer::SubscriberExt as _};

    use super::*;
    use crate::telemetry::traces;

    const REMOTE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_traceparent_is_one() {
        assert!(parse(REMOTE).is_some());
        assert!(parse(&REMOTE.replacen("00", "01", 1)).is_some());
        assert!(parse(&(REMOTE.replacen("00", "01", 1) + "-more")).is_some());
        for bad in [
            String::new(),
            "x".to_owned(),
            REMOTE.to_uppercase(),
            REMOTE.replacen("00", "ff", 1),
            REMOTE.to_owned() + "-more",
            REMOTE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            REMOTE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            REMOTE.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
        ] {
            assert_eq!(parse(&bad), None, "`{bad}`");
        }
    }

    #[test]
    fn a_trace_goes_on_under_a_remote_parent() {
        ENABLED.store(true, Ordering::Relaxed);
        let provider = SdkTracerProvider::builder().build();
        with_default(Registry::default().with(traces(&provider)), || {
            assert_eq!(current_traceparent(), None, "there is no span");
            let span = info_span!("call");
            set_parent(&span, "nonsense");
            set_parent(&span, REMOTE);
            let ours = span.in_scope(current_traceparent).unwrap();
            let (parent, own) = (parse(REMOTE).unwrap(), parse(&ours).unwrap());
            assert_eq!(own.trace_id(), parent.trace_id());
            assert_ne!(own.span_id(), parent.span_id());
            assert!(own.is_sampled());
        });
        ENABLED.store(false, Ordering::Relaxed);
        assert_eq!(current_traceparent(), None);
    }
}
