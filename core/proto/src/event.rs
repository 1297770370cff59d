//! What a mutating call answers: accepted, progress, and at last the result.

use futures::{Stream, StreamExt as _};
use prost::Message;
use tonic::Status;

use crate::operation::v1alpha1::{Accepted, Progress};

/// One event of an operation whose result is an `R`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<R> {
    /// The first: the operation's row is committed.
    Accepted(Accepted),
    /// Any number of these.
    Progress(Progress),
    /// The last.
    Result(R),
}

/// The response message of a mutating rpc; implemented by generated code.
pub trait OperationResponse: Message + Default + Sized + 'static {
    /// What the operation ends with.
    type Result: Message + Default + 'static;

    /// The response that carries `event`.
    fn from_event(event: Event<Self::Result>) -> Self;

    /// The event, unless the message came without one.
    fn into_event(self) -> Option<Event<Self::Result>>;
}

/// Reads an operation's stream to its end and returns the result, for callers that do not care
/// how far it is. To its end, past the result: a stream of HTTP/2 that is dropped before counts as
/// reset, and a connection bears 1,024 of those on which something still came.
///
/// # Errors
/// The status the operation ended with; `Unavailable` if the stream ends without a result.
pub async fn result<M, S>(mut stream: S) -> Result<M::Result, Status>
where
    M: OperationResponse,
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    let mut result = None;
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => {
                if let Some(Event::Result(last)) = message.into_event() {
                    result = Some(last);
                }
            }
            // The result was committed before it was sent.
            Err(_) if result.is_some() => break,
            Err(status) => return Err(status),
        }
    }
    result.ok_or_else(|| Status::unavailable("the stream ended before the operation did"))
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};

    use crate::compute::v1alpha1::{CreateZoneResponse, Zone};

    use super::*;

    #[test]
    fn a_stream_is_read_to_its_end() {
        let accepted = || {
            Ok(CreateZoneResponse::from_event(Event::Accepted(
                Accepted::default(),
            )))
        };
        let last = || {
            Ok(CreateZoneResponse::from_event(Event::Result(
                Zone::default(),
            )))
        };
        let broken = || Err(Status::unavailable("broken"));
        let check = |messages: Vec<Result<CreateZoneResponse, Status>>, right: bool| {
            let mut messages = stream::iter(messages);
            let read = result(&mut messages).now_or_never().unwrap();
            assert_eq!(read.is_ok(), right, "{read:?}");
            assert!(messages.next().now_or_never().unwrap().is_none());
        };
        check(vec![accepted(), last()], true);
        check(vec![accepted(), last(), broken()], true);
        check(vec![accepted(), broken()], false);
        check(vec![accepted()], false);
    }
}
