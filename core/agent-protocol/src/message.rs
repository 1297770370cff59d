//! What is said besides commands: outcomes, hello, ping, and what enrolment gives an agent.

use serde::{Deserialize, Serialize};

use crate::Moment;
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a reply, in the form of the command's `Reply`.
    Ok(serde_json::Value),
    /// With an error.
    Error(CommandError),
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// What a program may depend on.
    pub code: CommandErrorCode,
    /// What a person reads.
    pub message: String,
}

impl CommandError {
    /// An error with that code.
    pub fn new(code: CommandErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The host could not do what was asked.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(CommandErrorCode::Failed, message)
    }
}

/// The kinds of failure of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandErrorCode {
    /// The command makes no sense on this host.
    Invalid,
    /// The host could not do it.
    Failed,
    /// A command with a higher fencing token came while this one waited.
    Stale,
    /// The command's time limit passed.
    Timeout,
    /// The agent does not know what became of the command.
    Lost,
    /// There is no such thing on the host.
    NotFound,
}

/// The agent's report of a task that ended. Answer 200: noted for good, forget it; 410: its
/// operation is over, forget it; anything else: keep it and report again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// The task.
    pub task: TaskUuid,
    /// Its operation.
    pub operation: OperationUuid,
    /// The host; must be the one that the agent's certificate names.
    pub host: HostUuid,
    /// Which run of the task it was: a task that failed may run again.
    pub began: Moment,
    /// How it ended.
    pub outcome: Outcome,
}

/// Sent by an agent that started. Tasks that an earlier incarnation was running are lost, those
/// that had ended are still reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The host; must be the one that the agent's certificate names.
    pub host: HostUuid,
    /// Another one for each start of the agent's process.
    pub agent_incarnation: Uuid,
    /// What the host has now.
    #[serde(flatten)]
    pub status: HostStatus,
}

/// What a host has, seen without a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Another one for each boot of the host.
    pub boot_id: String,
    /// Virtual machines that run on it.
    pub running: Vec<Uuid>,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Another one for each start of the agent's process.
    pub agent_incarnation: Uuid,
    /// What the host has now.
    #[serde(flatten)]
    pub status: HostStatus,
}

/// Sent when what a host has changed without a command: a virtual machine ended by itself. It
/// says only that it is worth a ping, so one that is lost costs the time until the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The host; must be the one that the agent's certificate names.
    pub host: HostUuid,
}

/// What a host's enrolment returns, to be installed at its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrollment {
    /// The host's certificate, PEM.
    pub certificate: String,
    /// The cloud's CA, PEM.
    pub ca_certificate: String,
    /// Base URLs of the nodes' callback listeners.
    pub callback_addresses: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outcome_has_the_form_that_is_documented() {
        let ok = Outcome::Ok(json!({"pid": 7}));
        assert_eq!(serde_json::to_value(ok).unwrap(), json!({"ok": {"pid": 7}}));
        let error = Outcome::Error(CommandError::failed("no disk"));
        assert_eq!(
            serde_json::to_value(error).unwrap(),
            json!({"error": {"code": "failed", "message": "no disk"}})
        );
    }

    #[test]
    fn hello_is_flat() {
        let hello = Hello {
            host: HostUuid(Uuid::nil()),
            agent_incarnation: Uuid::nil(),
            status: HostStatus {
                boot_id: "b".to_owned(),
                running: vec![Uuid::nil()],
            },
        };
        let nil = Uuid::nil();
        assert_eq!(
            serde_json::to_value(hello).unwrap(),
            json!({"host": nil, "agent_incarnation": nil, "boot_id": "b", "running": [nil]})
        );
    }
}
