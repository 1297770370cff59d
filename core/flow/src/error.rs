//! What is wrong with a flow, or with the log of one.

use cairn_types::{Coded, ErrorCode};

/// A flow that cannot be built, or a run that breaks its declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// Two steps have one name; the log could not tell them apart.
    #[error("flow {flow} has two steps `{step}`")]
    Duplicate {
        /// The flow.
        flow: &'static str,
        /// The name.
        step: String,
    },
    /// A step's name cannot be stored.
    #[error("flow {flow}: `{step}` is no name for a step; use a-z, 0-9 and `-`")]
    Name {
        /// The flow.
        flow: &'static str,
        /// The name.
        step: String,
    },
    /// A step needs what nothing before it provides.
    #[error(
        "flow {flow}: step `{step}` needs {message}, which neither an input nor a step before it provides"
    )]
    Missing {
        /// The flow.
        flow: &'static str,
        /// The step.
        step: String,
        /// The full name of what it needs.
        message: String,
    },
    /// There is no such step.
    #[error("flow {flow} has no step `{step}`")]
    NoStep {
        /// The flow.
        flow: &'static str,
        /// The name.
        step: String,
    },
    /// A run was begun without one of the inputs.
    #[error("flow {flow} was begun without {message}")]
    Input {
        /// The flow.
        flow: &'static str,
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

impl Coded for FlowError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Internal
    }
}
