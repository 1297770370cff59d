//! The trace that a call belongs to, carried from process to process as a W3C `traceparent`
//! (<https://www.w3.org/TR/trace-context/>). There is no `tracestate`: nothing here reads one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Whether traces are exported at all: when not, nothing here looks further.
pub(crate) static ENABLED: AtomicBool = AtomicBool::new(false);

/// Whether traces are exported: when not, a span that only a trace needs is not worth opening.
#[must_use]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The current span as a `traceparent`; none outside of a trace or when no traces are exported.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    enabled().then(|| of(&Span::current())).flatten()
}

/// Whether a trace goes on under this text: it is a `traceparent`, and traces are exported. For
/// what comes from outside, before it is kept.
#[must_use]
pub fn follows(traceparent: &str) -> bool {
    enabled() && parse(traceparent).is_some()
}

/// Hands a trace on to a span that nobody entered yet: makes it a child of the one that
/// `traceparent` names, and then has `traceparent` name it. Opened within a trace, a span belongs
/// there already, and what `traceparent` was before is passed over. Does nothing when no traces
/// are exported.
pub fn hand_on(span: &Span, traceparent: &mut Option<Arc<str>>) {
    if !enabled() {
        return;
    }
    let within = valid_context(&Span::current()).is_some();
    if let Some(parent) = traceparent.as_deref().filter(|_| !within) {
        set_parent(span, parent);
    }
    if let Some(own) = of(span) {
        *traceparent = Some(own.into());
    }
}

/// Makes the span a child of the one that the `traceparent` names. It has an effect before the
/// span is first entered. What is not a `traceparent` is passed over, as the standard demands.
pub fn set_parent(span: &Span, traceparent: &str) {
    if !enabled() {
        return;
    }
    if let Some(parent) = parse(traceparent) {
        // It fails for a span that no trace takes up (filtered out, or already begun): no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

fn of(span: &Span) -> Option<String> {
    let context = valid_context(span)?;
    Some(format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8()
    ))
}

fn valid_context(span: &Span) -> Option<SpanContext> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
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

            // Handed on: to a call from outside, and from there to what it does.
            assert!(follows(REMOTE) && !follows("nonsense"));
            let trace_of = |text: &str| parse(text).unwrap().trace_id();
            let mut handed = Some(Arc::from(REMOTE));
            let call = info_span!("call");
            hand_on(&call, &mut handed);
            let of_call = handed.clone().unwrap();
            assert_eq!(trace_of(&of_call), parent.trace_id());
            assert_eq!(
                call.in_scope(current_traceparent).as_deref(),
                Some(&*of_call)
            );
            let other = REMOTE.replace("4bf9", "5bf9");
            let mut handed = Some(Arc::from(other.as_str()));
            call.in_scope(|| hand_on(&info_span!("inner"), &mut handed));
            assert_eq!(
                trace_of(&handed.unwrap()),
                parent.trace_id(),
                "a span within a trace belongs there"
            );
            let mut none = None;
            hand_on(&info_span!("first"), &mut none);
            assert_ne!(trace_of(&none.unwrap()), parent.trace_id());
        });
        ENABLED.store(false, Ordering::Relaxed);
        assert_eq!(current_traceparent(), None);
        assert!(!follows(REMOTE));
    }
}
