//! The span of a call: what its service does appears under it, here and, by the call's
//! `traceparent`, wherever it goes.

use std::task::{Context, Poll};

use cairn_boot::propagation;
use cairn_proto::call::{Answer, Call};
use futures::future::Either;
use tonic::Status;
use tower::{Layer, Service};
use tracing::{Instrument as _, debug_span, info_span, instrument::Instrumented};

use crate::stack::ready;

#[derive(Clone)]
pub(crate) struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace(inner)
    }
}

#[derive(Clone)]
pub(crate) struct Trace<S>(S);

impl<S> Service<Call> for Trace<S>
where
    S: Service<Call, Response = Answer, Error = Status>,
{
    type Response = Answer;
    type Error = Status;
    type Future = Either<S::Future, Instrumented<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let (method, key) = (call.method.path, &call.key);
        // Without a trace only a log of the finest grain has a use for it.
        let span = if propagation::enabled() {
            info_span!("call", method, key)
        } else {
            debug_span!("call", method, key)
        };
        // A span that nobody wants costs a comparison and no more.
        if span.is_disabled() {
            return Either::Left(self.0.call(call));
        }
        propagation::hand_on(&span, &mut call.context.traceparent);
        Either::Right(span.in_scope(|| self.0.call(call)).instrument(span))
    }
}
