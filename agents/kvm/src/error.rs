//! What can go wrong on a host.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use cairn_agent_protocol::{CommandError, CommandErrorCode};
use cairn_sftp::SftpError;
use cairn_types::{Coded, ErrorCode, Uuid, chain};

/// Why the agent could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// The command makes no sense on this host.
    #[error("{0}")]
    Invalid(String),
    /// What the command needs is not so.
    #[error("{0}")]
    Refused(String),
    /// The virtual machine does not run here.
    #[error("virtual machine {0} does not run here")]
    NotRunning(Uuid),
    /// A program could not be started.
    #[error("run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {words}")]
    Failed {
        /// The program and what it was asked.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to its standard error.
        words: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {limit:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A program wrote what cannot be understood.
    #[error("understand what `{command}` wrote")]
    Output {
        /// The program and what it was asked.
        command: String,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// A file could not be read or written.
    #[error("access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file of the agent's folder is not what the agent wrote.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// The agent's address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A process could not be watched or ended.
    #[error("{action} process {pid}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// The process.
        pid: u32,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A virtual machine's monitor could not be spoken to.
    #[error("ask the virtual machine's monitor for `{command}`")]
    Monitor {
        /// What was asked.
        command: &'static str,
        /// Why it did not work.
        #[source]
        cause: io::Error,
    },
    /// A backup storage did not give an image.
    #[error("fetch an image")]
    Fetch(#[from] SftpError),
}

impl KvmError {
    /// For `map_err` of what is done to a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}

impl Coded for KvmError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidArgument,
            Self::NotRunning(_) => ErrorCode::NotFound,
            Self::TimedOut { .. } => ErrorCode::DeadlineExceeded,
            _ => ErrorCode::AgentFailed,
        }
    }
}

impl From<KvmError> for CommandError {
    fn from(error: KvmError) -> Self {
        let code = match error {
            KvmError::Invalid(_) => CommandErrorCode::Invalid,
            KvmError::NotRunning(_) => CommandErrorCode::NotFound,
            KvmError::TimedOut { .. } => CommandErrorCode::Timeout,
            _ => CommandErrorCode::Failed,
        };
        Self::new(code, chain(&error))
    }
}
