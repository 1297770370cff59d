//! Why a call does not become an operation, or an operation ends without its handler.

use cairn_types::{Coded, ErrorCode, OperationUuid};

/// A refusal or an end that comes from this crate and not from a handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// No handler was registered for the method.
    #[error("nothing here handles {0}")]
    NoHandler(&'static str),
    /// The account used the idempotency key for another request.
    #[error(
        "the idempotency key was used for another request, operation {0}; take a new key, or \
         repeat that request as it was"
    )]
    KeyReused(OperationUuid),
    /// Nobody said where it is kept what operations leave.
    #[error("nothing here keeps what operations leave")]
    NoLeftovers,
    /// The node stops.
    #[error("the node is stopping; accepted operations go on after its next start")]
    Stopping,
    /// A cancel was asked for.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The time limit is over.
    #[error("the operation did not end within its time limit")]
    TimeLimit,
    /// The handler panicked.
    #[error("the handler panicked: {0}")]
    Panicked(String),
    /// What was stored cannot be read back.
    #[error("operation {operation}: its {what} cannot be read")]
    Unreadable {
        /// The operation.
        operation: String,
        /// What it is: `request`, `result`.
        what: &'static str,
    },
}

impl Coded for OperationError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoHandler(_) | Self::NoLeftovers => ErrorCode::Unimplemented,
            Self::KeyReused(_) => ErrorCode::IdempotencyKeyReused,
            Self::Stopping => ErrorCode::Unavailable,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::TimeLimit => ErrorCode::DeadlineExceeded,
            Self::Panicked(_) | Self::Unreadable { .. } => ErrorCode::Internal,
        }
    }
}
