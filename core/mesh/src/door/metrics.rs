//! What the public door counts:
//!
//! - `cairn_calls_total{method, code}`: calls that have ended, by the gRPC path and the code of
//!   their status (`Ok`, `NotFound`). A stream ends with its last message; one that the caller
//!   left before is `Cancelled`. `method` is empty where a call was refused before it had one: no
//!   credential, no such method.
//! - `cairn_call_duration_seconds{method}`: from the request to that end. For a mutating rpc that
//!   is the operation, waiting included.
//!
//! Calls between services are not counted: they have spans.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use cairn_boot::metrics::{Counters, Durations};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use tonic::{Code, Status};

static CALLS: Counters<2> = Counters::new(
    "cairn_calls_total",
    "Calls at the public door that have ended.",
    ["method", "code"],
);
static DURATIONS: Durations<1> = Durations::new(
    "cairn_call_duration_seconds",
    "From the request to the end of the answer.",
    ["method"],
);

/// A call that was refused before its method was looked at.
pub(super) fn refused(code: Code) {
    CALLS.add(["", name(code)]);
}

/// A call that has begun; counted when it ends.
pub(super) struct Measured {
    method: &'static str,
    started: Instant,
    /// What it counts as if it ends now.
    code: Code,
}

impl Measured {
    pub(super) fn start(method: &'static str) -> Self {
        Self {
            method,
            started: Instant::now(),
            code: Code::Cancelled,
        }
    }

    pub(super) async fn unary<T>(
        mut self,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let answer = answer.await;
        self.code = code(&answer);
        answer
    }

    pub(super) fn stream<T: 'static>(
        mut self,
        answer: Result<BoxStream<'static, Result<T, Status>>, Status>,
    ) -> Result<BoxStream<'static, Result<T, Status>>, Status> {
        match answer {
            Ok(stream) => Ok(MeasuredStream {
                stream,
                measured: Some(self),
            }
            .boxed()),
            Err(status) => {
                self.code = status.code();
                Err(status)
            }
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        CALLS.add([self.method, name(self.code)]);
        DURATIONS.observe([self.method], self.started.elapsed());
    }
}

struct MeasuredStream<T> {
    stream: BoxStream<'static, Result<T, Status>>,
    /// None once the end was seen.
    measured: Option<Measured>,
}

impl<T> Stream for MeasuredStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(cx);
        let ended = match &polled {
            Poll::Ready(None) => Code::Ok,
            Poll::Ready(Some(Err(status))) => status.code(),
            _ => return polled,
        };
        if let Some(mut measured) = self.measured.take() {
            measured.code = ended;
        }
        polled
    }
}

fn code<T>(answer: &Result<T, Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// As the Rust and Go libraries of gRPC write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "Ok",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use cairn_boot::metrics::render;
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_stream_counts_as_what_it_ended_with() {
        let pending = stream::iter([Ok(1)]).chain(stream::pending());
        let left = Measured::start("/left").stream(Ok(pending.boxed()));
        assert!(left.unwrap().next().await.is_some());

        let failing = stream::iter([Ok(1), Err(Status::not_found("it"))]);
        let failed = Measured::start("/failed").stream(Ok(failing.boxed()));
        assert_eq!(failed.unwrap().count().await, 2);

        let whole = Measured::start("/whole").stream(Ok(stream::iter([Ok(1)]).boxed()));
        assert_eq!(whole.unwrap().count().await, 1);

        for (method, code) in [
            ("/left", "Cancelled"),
            ("/failed", "NotFound"),
            ("/whole", "Ok"),
        ] {
            let line = format!("cairn_calls_total{{code=\"{code}\",method=\"{method}\"}} 1\n");
            assert!(render().contains(&line), "{line}:\n{}", render());
        }
    }
}
