//! A step: what it does, how it is undone, and what it knows while it does that.

use async_trait::async_trait;
use cairn_operation::OperationContext;
use cairn_proto::fault::Fault;
use cairn_store::Store;
use cairn_types::TaskUuid;
use prost::Name;

use crate::{Bag, FlowError, Options, Outcome};

/// One step of a flow. Both directions are idempotent: after a crash a direction whose outcome was
/// not committed runs again.
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// What flows name it by, `allocate-host`: a-z, 0-9 and `-`, stable once released. It is also
    /// its name in the log, unless the flow gives it another one.
    fn name(&self) -> &'static str;

    /// The full names of the messages that it reads.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// The full names of the messages that its run adds; all of them.
    fn provides(&self) -> &'static [&'static str] {
        &[]
    }

    /// It has an effect outside of the database, so an intent is committed before it begins.
    fn outside(&self) -> bool {
        false
    }

    /// How it is tried, unless the flow says otherwise.
    fn options(&self) -> Options {
        Options::default()
    }

    /// It is left out of this run.
    fn skip(&self, _bag: &Bag) -> bool {
        false
    }

    /// Does it. What it changes in the database it puts into the outcome.
    ///
    /// # Errors
    /// The fault that the operation ends with, once this step and those before it are undone.
    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault>;

    /// Undoes it, also when its run failed half-way or, after a crash, never began: what it
    /// provides may be absent.
    ///
    /// # Errors
    /// The fault for which it is tried again, and at last left as it is.
    async fn rollback(&self, _cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        Ok(Outcome::none())
    }
}

/// Which way a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It is done.
    Run,
    /// It is undone.
    Rollback,
}

impl Direction {
    /// As the log and the ids of tasks have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Rollback => "rollback",
        }
    }
}

/// What a step knows while it runs or rolls back. Calls that it makes through the mesh carry its
/// task as their idempotency key, so a step makes one mutating call, or gives each its own key.
pub struct StepContext<'a> {
    pub(crate) bag: &'a Bag,
    pub(crate) operation: &'a OperationContext,
    pub(crate) step: &'a str,
    pub(crate) direction: Direction,
}

impl StepContext<'_> {
    /// The message of that type.
    ///
    /// # Errors
    /// `Internal` if there is none. In a rollback, of what the step itself provides, there may be
    /// none: see [`StepContext::find`].
    pub fn get<M: Name + Default>(&self) -> Result<M, Fault> {
        self.find().ok_or_else(|| {
            FlowError::Absent {
                step: self.step.to_owned(),
                message: M::full_name(),
            }
            .into()
        })
    }

    /// The message of that type, if there is one.
    #[must_use]
    pub fn find<M: Name + Default>(&self) -> Option<M> {
        self.bag.get()
    }

    /// The operation: its account, its progress, and whether it is cancelled.
    #[must_use]
    pub fn operation(&self) -> &OperationContext {
        self.operation
    }

    /// The database, to read from; to write, see [`Outcome::rows`].
    #[must_use]
    pub fn store(&self) -> &Store {
        self.operation.store()
    }

    /// The id of what this step does outside in this direction: the same in every repeat.
    #[must_use]
    pub fn task(&self) -> TaskUuid {
        let direction = self.direction.as_str();
        TaskUuid::of_step(self.operation.uuid(), self.step, direction)
    }

    /// Which way the step goes.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }
}
