//! Why a command failed, in words that say what to do.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why a command failed.
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
    /// A program ran and said no, in these words.
    #[error("`{command}` ended with {status}: {words}")]
    Said {
        command: String,
        status: ExitStatus,
        words: String,
    },
    /// A state did not come.
    #[error("waited {limit_secs} s until {what}; seen last: {last}")]
    Late {
        what: String,
        limit_secs: u64,
        last: String,
    },
    /// What is there is not what it must be, and is better left alone.
    #[error("{0}")]
    Refused(String),
    /// A step of a longer way failed.
    #[error("step `{step}`")]
    Step {
        step: String,
        #[source]
        cause: Box<XtaskError>,
    },
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
    /// What makes a file's error ours.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }

    /// The error of a check: none when nothing was found.
    pub(crate) fn of_findings(findings: Vec<String>) -> Result<(), Self> {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self::Findings(findings))
        }
    }
}
