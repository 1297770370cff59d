//! Why a stage failed, in words that say what to do.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why a stage failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XtaskError {
    /// A program could not be started.
    #[error("start `{program}`")]
    Start {
        program: String,
        #[source]
        cause: io::Error,
    },
    /// A program ran and said no; its own words are above.
    #[error("`{command}` ended with {status}")]
    Failed { command: String, status: ExitStatus },
    /// A check of our own found something.
    #[error("{} found:{}", .0.len(), .0.iter().map(|f| format!("\n  {f}")).collect::<String>())]
    Findings(Vec<String>),
    /// A program is not there and could not be fetched.
    #[error("`{program}` is missing; {install}")]
    Missing {
        program: &'static str,
        install: String,
    },
    /// A file could not be read or written.
    #[error("access `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// A file or an answer is not what its format demands.
    #[error("parse {what}")]
    Parse {
        what: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl XtaskError {
    /// The error of a check: none when nothing was found.
    pub(crate) fn of_findings(findings: Vec<String>) -> Result<(), Self> {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self::Findings(findings))
        }
    }
}
