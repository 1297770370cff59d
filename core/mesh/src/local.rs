//! The end of the stack: a service of this process runs the call, with the promises that a
//! remote call keeps by itself. A panic becomes an error of the call; calls nested in calls
//! move to a stack of their own before they exhaust the one they share.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready as poll_ready},
};

use cairn_proto::{
    call::{Answer, BoxFuture, Call, Payload},
    fault::Fault,
};
use cairn_types::ErrorCode;
use futures::{FutureExt as _, Stream, StreamExt as _, stream::BoxStream};
use tokio::task::JoinSet;
use tonic::Status;
use tower::Service;
use tracing::error;

use crate::stack::{Registry, ready};

/// Calls polled inside each other before the next one gets a task, and so a stack, of its own.
/// Fewer than 50 were seen to overflow a 2 MiB stack in an unoptimised build.
const NESTED_AT_MOST: u32 = 12;

thread_local! {
    static NESTED: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone)]
pub(crate) struct Local(Arc<Registry>);

impl Local {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self(registry)
    }
}

impl Service<Call> for Local {
    type Response = Answer;
    type Error = Status;
    type Future = Guarded;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready(cx)
    }

    fn call(&mut self, call: Call) -> Guarded {
        let Call {
            method,
            implementer,
            context,
            payload,
            ..
        } = call;
        let dispatch = match implementer {
            Some(implementer) => self.0.extension(method.service, &implementer),
            None => self.0.service(method.service).map(|it| &it.dispatch),
        };
        let running = match dispatch {
            Some(dispatch) => {
                let dispatch = Arc::clone(dispatch);
                // Lazy: the handler's own code runs inside the guard, in the call's context.
                context
                    .scope(async move { dispatch.dispatch(method, payload).await })
                    .boxed()
            }
            None => async { Err(Status::unimplemented(method.path)) }.boxed(),
        };
        Guarded {
            method: method.path,
            state: State::Here(running),
        }
    }
}

/// A running call.
pub(crate) struct Guarded {
    method: &'static str,
    state: State,
}

enum State {
    Here(BoxFuture<Result<Answer, Status>>),
    // One task; dropping the set aborts it, as dropping a call ends it.
    OwnTask(JoinSet<Result<Answer, Status>>),
}

impl Future for Guarded {
    type Output = Result<Answer, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let method = this.method;
        if let State::Here(running) = &mut this.state {
            if let Some(_nested) = Nested::enter() {
                let poll = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
                return match poll {
                    Ok(poll) => {
                        poll.map(|answer| answer.map(|answer| guard_stream(method, answer)))
                    }
                    Err(panic) => Poll::Ready(Err(panicked(method, &*panic))),
                };
            }
            let running = std::mem::replace(running, Box::pin(std::future::pending()));
            let mut task = JoinSet::new();
            task.spawn(running);
            this.state = State::OwnTask(task);
        }
        let State::OwnTask(task) = &mut this.state else {
            return Poll::Pending;
        };
        Poll::Ready(match poll_ready!(task.poll_join_next(cx)) {
            Some(Ok(answer)) => answer.map(|answer| guard_stream(method, answer)),
            Some(Err(end)) if end.is_panic() => Err(panicked(method, &*end.into_panic())),
            _ => Err(Fault::new(ErrorCode::Unavailable, "the node stops").into()),
        })
    }
}

/// One level of calls being polled inside each other on this thread.
struct Nested;

impl Nested {
    fn enter() -> Option<Self> {
        NESTED.with(|nested| {
            if nested.get() >= NESTED_AT_MOST {
                return None;
            }
            nested.set(nested.get() + 1);
            Some(Self)
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED.with(|nested| nested.set(nested.get() - 1));
    }
}

fn panicked(method: &str, panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    error!(method, panic = text, "a call panicked");
    Fault::new(
        ErrorCode::Internal,
        format!("{method} failed unexpectedly; the log has more"),
    )
    .into()
}

fn guard_stream(method: &'static str, answer: Answer) -> Answer {
    match answer {
        Answer::One(payload) => Answer::One(payload),
        Answer::Stream(stream) => Answer::Stream(
            GuardedStream {
                method,
                stream: Some(stream),
            }
            .boxed(),
        ),
    }
}

struct GuardedStream {
    method: &'static str,
    stream: Option<BoxStream<'static, Result<Payload, Status>>>,
}

impl Stream for GuardedStream {
    type Item = Result<Payload, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| stream.poll_next_unpin(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                self.stream = None;
                Poll::Ready(Some(Err(panicked(self.method, &*panic))))
            }
        }
    }
}
