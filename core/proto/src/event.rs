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
/// how far it is.
///
/// # Errors
/// The status the operation ended with; `Unavailable` if the stream ends without a result.
pub async fn result<M, S>(mut stream: S) -> Result<M::Result, Status>
where
    M: OperationResponse,
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    while let Some(message) = stream.next().await {
        if let Some(Event::Result(result)) = message?.into_event() {
            return Ok(result);
        }
    }
    Err(Status::unavailable(
        "the stream ended before the operation did",
    ))
}
