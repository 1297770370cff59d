//! What can go wrong between a node and an agent.

use std::{error::Error, time::Duration};

use cairn_queue::QueueError;
use cairn_tls::TlsError;
use cairn_types::{Coded, ErrorCode, HostUuid, TaskUuid};

/// Why a call of an agent has no outcome. An outcome that says that the command failed is none
/// of these: it is a reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No address was set for the host.
    #[error("the address of host {0}'s agent is not known")]
    NoAddress(HostUuid),
    /// The agent did not take the command in time. It may have: an answer can be lost.
    #[error("the agent of host {host} did not take `{command}`")]
    Unreachable {
        /// The host.
        host: HostUuid,
        /// What was sent.
        command: &'static str,
        /// The last attempt's failure.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The agent refused the command for good.
    #[error("the agent of host {host} refused `{command}` with {status}: {message}")]
    Refused {
        /// The host.
        host: HostUuid,
        /// What was sent.
        command: &'static str,
        /// The HTTP status; 409 means that the token is stale.
        status: u16,
        /// The agent's words.
        message: String,
    },
    /// The agent took the command, and no outcome came.
    #[error("`{command}` on host {host} did not end within {} ms", limit.as_millis())]
    Deadline {
        /// The host.
        host: HostUuid,
        /// What was sent.
        command: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Too many commands are under way on the host, or this one waited too long for them.
    #[error("`{command}` did not get its turn on host {host}")]
    NoTurn {
        /// The host.
        host: HostUuid,
        /// What was to be sent.
        command: &'static str,
        /// What stands against it.
        #[source]
        cause: QueueError,
    },
    /// The same task was called again while this call waited; the outcome goes there.
    #[error("task {task} on host {host} was called again")]
    CalledAgain {
        /// The host.
        host: HostUuid,
        /// The task.
        task: TaskUuid,
    },
    /// A message of the agent's is not what the protocol says, or ours cannot be made.
    #[error("the message of `{command}` with host {host} is malformed")]
    Malformed {
        /// The host.
        host: HostUuid,
        /// What was sent.
        command: &'static str,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// The client could not be made from the node's credentials.
    #[error("use the node's certificate")]
    Certificate(#[source] TlsError),
    /// The client could not be made.
    #[error("make the client for agents")]
    Client(#[source] reqwest::Error),
}

impl Coded for AgentError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoAddress(_) | Self::Unreachable { .. } => ErrorCode::AgentUnreachable,
            Self::Refused { .. } | Self::Malformed { .. } => ErrorCode::AgentFailed,
            Self::Deadline { .. } => ErrorCode::DeadlineExceeded,
            Self::NoTurn { cause, .. } => cause.code(),
            Self::CalledAgain { .. } | Self::Certificate(_) | Self::Client(_) => {
                ErrorCode::Internal
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoTurn { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }
}
