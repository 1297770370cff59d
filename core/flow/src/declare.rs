//! Flows that are declared in files: which step follows which, by the names that services
//! registered their steps under.
//!
//! A service embeds the files of its flows. Those in an operator's directory are laid over them: a
//! file there replaces the flow of that name, or changes it when it extends that name.
//!
//! ```toml
//! # create-vm-instance.toml
//! flow = "create-vm-instance"
//! inputs = ["cairn.compute.v1alpha1.CreateVmInstanceRequest"]
//! steps = [
//!     "allocate-host",
//!     { step = "cache-image", timeout_secs = 3600, retry = { attempts = 3 }, weight = 10 },
//!     { group = "devices", steps = ["allocate-volume", "allocate-nic"] },
//!     { flow = "announce", name = "tell" },
//! ]
//!
//! # create-appliance.toml
//! flow = "create-appliance"
//! extends = "create-vm-instance"
//!
//! [[change]]
//! replace = "allocate-nic"
//! with = ["allocate-appliance-nics"]
//!
//! [[change]]
//! after = "allocate-host"        # or before
//! insert = ["reserve-address"]
//!
//! [[change]]
//! remove = "tell"
//! ```
//!
//! Further keys of a flow: `forward_after`, `rollback_retry`, and lists of registered hooks under
//! `done`, `error` and `finally`. Further keys of a step: `name`, for the log, and
//! `rollback = false`; and when it is left out of a run, by a field of a message that is there:
//!
//! ```toml
//! run_if = { message = "cairn.compute.v1alpha1.VmInstance", field = "state", is = "Running" }
//! skip_if = { message = "cairn.compute.v1alpha1.VmInstance", field = "host_uuid", set = false }
//! ```
//!
//! What such a step provides, no step after it can need. All is checked at the start of the process, and every mistake told with its
//! place.

mod change;
mod file;
mod registry;
mod resolve;

use std::{fmt, io, path::PathBuf};

use cairn_types::{Coded, ErrorCode};

pub use registry::{Flows, Registry};

/// Flows that cannot be used: a mistake in a declaration, or a step that is missing.
#[derive(Debug, thiserror::Error)]
pub enum WrongFlows {
    /// The operator's directory, or a file in it, cannot be read.
    #[error("read flows from {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Every mistake that was found.
    #[error("the flows do not fit together{}", list(.0))]
    Mistakes(Vec<Mistake>),
}

impl Coded for WrongFlows {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }
}

/// One mistake in the declaration of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file; of an embedded one its name, of another one its path.
    pub file: String,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    /// The flow.
    pub flow: String,
    /// The step, if it is of one.
    pub step: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Mistake {
    /// `create-vm-instance.toml:4:5`
    fn place(&self) -> String {
        match self.position {
            Some((line, column)) => format!("{}:{line}:{column}", self.file),
            None => self.file.clone(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: flow {}", self.place(), self.flow)?;
        if let Some(step) = &self.step {
            write!(f, ", step {step}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

fn list(mistakes: &[Mistake]) -> String {
    let lines = mistakes.iter().map(|mistake| format!("\n  {mistake}"));
    lines.collect()
}
