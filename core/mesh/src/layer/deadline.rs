//! Ends the wait for an answer at the caller's deadline. tonic does this for sockets only.
//!
//! What the service had begun is dropped, unless it was accepted: then the operation goes on
//! and only its stream ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use cairn_proto::{
    call::{Answer, BoxFuture, Call, Payload},
    fault::Fault,
};
use cairn_types::ErrorCode;
use futures::{Stream, StreamExt as _, future::Either, stream::BoxStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tower::{Layer, Service};

use crate::stack::ready;

/// What an implementer of an extension point gets, unless its caller has less: it holds up work
/// that is not its own.
const IMPLEMENTER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline(inner)
    }
}

#[derive(Clone)]
pub(crate) struct Deadline<S>(S);

impl<S> Service<Call> for Deadline<S>
where
    S: Service<Call, Response = Answer, Error = Status>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Status;
    type Future = Either<S::Future, BoxFuture<Result<Answer, Status>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        if call.implementer.is_some() {
            let latest = (Instant::now() + IMPLEMENTER_LIMIT).into_std();
            let deadline = call.context.deadline.get_or_insert(latest);
            *deadline = latest.min(*deadline);
        }
        let (deadline, method) = (call.context.deadline.map(Instant::from), call.method.path);
        let answer = self.0.call(call);
        let Some(deadline) = deadline else {
            return Either::Left(answer);
        };
        Either::Right(Box::pin(async move {
            match timeout_at(deadline, answer).await {
                Err(_) => Err(passed(method)),
                Ok(Ok(Answer::Stream(stream))) => {
                    Ok(Answer::Stream(until(deadline, method, stream)))
                }
                Ok(answer) => answer,
            }
        }))
    }
}

fn passed(method: &str) -> Status {
    let message = format!("{method} did not answer before the caller's deadline");
    Fault::new(ErrorCode::DeadlineExceeded, message).into()
}

fn until(
    deadline: Instant,
    method: &'static str,
    stream: BoxStream<'static, Result<Payload, Status>>,
) -> BoxStream<'static, Result<Payload, Status>> {
    Until {
        stream: Some(stream),
        end: Box::pin(sleep_until(deadline)),
        method,
    }
    .boxed()
}

struct Until {
    stream: Option<BoxStream<'static, Result<Payload, Status>>>,
    end: Pin<Box<Sleep>>,
    method: &'static str,
}

impl Stream for Until {
    type Item = Result<Payload, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(item) = stream.poll_next_unpin(cx) {
            return Poll::Ready(item);
        }
        if this.end.as_mut().poll(cx).is_ready() {
            this.stream = None;
            return Poll::Ready(Some(Err(passed(this.method))));
        }
        Poll::Pending
    }
}
