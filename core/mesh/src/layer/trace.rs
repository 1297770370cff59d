//! The span of a call: what its service does appears under it.

use std::task::{Context, Poll};

use cairn_proto::call::{Answer, Call};
use futures::future::Either;
use tonic::Status;
use tower::{Layer, Service};
use tracing::{Instrument as _, debug_span, instrument::Instrumented};

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

    fn call(&mut self, call: Call) -> Self::Future {
        let span = debug_span!("call", method = call.method.path, key = call.key);
        // A span that nobody wants costs a comparison and no more.
        if span.is_disabled() {
            Either::Left(self.0.call(call))
        } else {
            Either::Right(span.in_scope(|| self.0.call(call)).instrument(span))
        }
    }
}
