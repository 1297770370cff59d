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

/// Waits until a call has become an operation, for callers that then leave it to itself.
///
/// # Errors
/// Why it was not accepted; `Unavailable` if the stream ends before that is known.
pub async fn accepted<M, S>(mut stream: S) -> Result<Accepted, Status>
where
    M: OperationResponse,
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    while let Some(message) = stream.next().await {
        if let Some(Event::Accepted(accepted)) = message?.into_event() {
            return Ok(accepted);
        }
    }
    Err(Status::unavailable(
        "the stream ended before the call was accepted",
    ))
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

    fn of(event: Event<Zone>) -> Result<CreateZoneResponse, Status> {
        Ok(CreateZoneResponse::from_event(event))
    }

    #[test]
    fn who_leaves_an_operation_to_itself_reads_until_it_is_one() {
        let refused = || Err(Status::unavailable("refused"));
        let operation = Accepted {
            operation_uuid: "it".to_owned(),
            ..Accepted::default()
        };
        let begun = || of(Event::Accepted(operation.clone()));
        let check = |messages: Vec<Result<CreateZoneResponse, Status>>, right: bool| {
            let read = accepted(stream::iter(messages)).now_or_never().unwrap();
            assert_eq!(read.ok(), right.then(|| operation.clone()));
        };
        check(vec![begun(), refused()], true);
        check(
            vec![of(Event::Progress(Progress::default())), begun()],
            true,
        );
        check(vec![refused(), begun()], false);
        check(vec![], false);
    }

    #[test]
    fn a_stream_is_read_to_its_end() {
        let accepted = || of(Event::Accepted(Accepted::default()));
        let last = || of(Event::Result(Zone::default()));
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
