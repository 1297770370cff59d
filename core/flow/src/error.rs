//! What is wrong with a flow, or with the log of one.

use cairn_types::{Coded, ErrorCode};

/// A flow that cannot be built, or a run that breaks its declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// Two steps have one name; the log could not tell them apart.
    #[error("flow {flow} has two parts `{step}`; give one another name")]
    Duplicate {
        /// The flow.
        flow: String,
        /// The name.
        step: String,
    },
    /// A step's name cannot be stored.
    #[error("flow {flow}: `{step}` is no name for a step; use a-z, 0-9 and `-`")]
    Name {
        /// The flow.
        flow: String,
        /// The name.
        step: String,
    },
    /// A step needs what nothing before it provides.
    #[error(
        "flow {flow}: step `{step}` needs {message}, which neither an input nor a step before it provides"
    )]
    Missing {
        /// The flow.
        flow: String,
        /// The step.
        step: String,
        /// The full name of what it needs.
        message: String,
    },
    /// A step provides what is there already, and does not need it: one of the two is in vain.
    #[error(
        "flow {flow}: step `{step}` provides {message}, which {other} provides too; one that \
         changes a message needs it"
    )]
    Conflict {
        /// The flow.
        flow: String,
        /// The step.
        step: String,
        /// The full name of what both provide.
        message: String,
        /// Who else provides it.
        other: String,
    },
    /// A group or a flow in a flow has no parts.
    #[error("flow {flow}: `{step}` has no steps")]
    Empty {
        /// The flow.
        flow: String,
        /// The part.
        step: String,
    },
    /// A flow in a flow has a point of no return.
    #[error(
        "flow {flow}: `{step}` has a point of no return, so it cannot be undone with the rest; \
         name that point in {flow} itself"
    )]
    InnerForward {
        /// The flow.
        flow: String,
        /// The part.
        step: String,
    },
    /// There is no such flow.
    #[error("there is no flow `{flow}`")]
    NoFlow {
        /// Its name.
        flow: String,
    },
    /// A flow takes inputs that the rpc which runs it does not give it.
    #[error("flow {flow} takes {message}; {method}, which runs it, gives it {given}")]
    Inputs {
        /// The flow.
        flow: String,
        /// The full name of the input.
        message: String,
        /// The rpc.
        method: String,
        /// What it gives.
        given: String,
    },
    /// A flow does not end with what the rpc which runs it makes its result of.
    #[error("no step of flow {flow} provides {message}, of which {method} makes its result")]
    Ends {
        /// The flow.
        flow: String,
        /// The full name of what is missing.
        message: String,
        /// The rpc.
        method: String,
    },
    /// There is no such step.
    #[error("flow {flow} has no step `{step}`")]
    NoStep {
        /// The flow.
        flow: String,
        /// The name.
        step: String,
    },
    /// A run was begun without one of the inputs.
    #[error("flow {flow} was begun without {message}")]
    Input {
        /// The flow.
        flow: String,
        /// The full name of the input.
        message: String,
    },
    /// A step provided something else than it declares.
    #[error("step `{step}` declares to provide [{declared}] and provided [{provided}]")]
    Provided {
        /// The step.
        step: String,
        /// Full names.
        declared: String,
        /// Full names.
        provided: String,
    },
    /// A step asked for what is not in the bag.
    #[error("step `{step}` asked for {message}, which is not there")]
    Absent {
        /// The step.
        step: String,
        /// The full name.
        message: String,
    },
    /// A step panicked.
    #[error("step `{step}` panicked: {panic}")]
    Panicked {
        /// The step.
        step: String,
        /// Its words.
        panic: String,
    },
    /// The log of a run cannot be read.
    #[error("the log of operation {operation}: {problem}")]
    Log {
        /// The operation.
        operation: String,
        /// What is wrong.
        problem: String,
    },
}

impl FlowError {
    /// The step that is wrong, in the declaration of a flow.
    pub(crate) fn step(&self) -> Option<&str> {
        match self {
            Self::Duplicate { step, .. }
            | Self::Name { step, .. }
            | Self::Missing { step, .. }
            | Self::Conflict { step, .. }
            | Self::Empty { step, .. }
            | Self::InnerForward { step, .. }
            | Self::NoStep { step, .. } => Some(step),
            _ => None,
        }
    }

    /// What is wrong, where flow and step are told already.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Duplicate { .. } => {
                "another part has that name; give this one a `name`".to_owned()
            }
            Self::Name { step, .. } => format!("`{step}` is no name; use a-z, 0-9 and `-`"),
            Self::Missing { message, .. } => {
                format!("needs {message}, which neither an input nor a step before it provides")
            }
            Self::Conflict { message, other, .. } => format!(
                "provides {message}, which {other} provides too; one that changes a message needs it"
            ),
            Self::Empty { .. } => "has no steps".to_owned(),
            Self::InnerForward { .. } => {
                "is a flow with a point of no return, which cannot be undone with the rest"
                    .to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl Coded for FlowError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Internal
    }
}
