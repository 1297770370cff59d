//! A step: what it does, how it is undone, and what it knows while it does that.

use async_trait::async_trait;
use cairn_operation::OperationContext;
use cairn_proto::fault::Fault;
use cairn_store::{BoxFuture, Store, Tx};
use cairn_types::TaskUuid;
use prost::Name;

use crate::{Bag, FlowError};

/// One step of a flow. Both directions are idempotent: after a crash a direction whose outcome was
/// not committed runs again.
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// Its name in the log, stable once released: `allocate-host`.
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

type Rows = dyn for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<Bag, Fault>> + Send + Sync;

/// What a step comes to: messages for the steps after it, and rows that commit with it.
#[derive(Default)]
pub struct Outcome {
    provided: Bag,
    rows: Option<Box<Rows>>,
    pub(crate) after: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Outcome {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A message for the steps after this one.
    pub fn provide<M: Name>(message: &M) -> Self {
        Self::none().and(message)
    }

    /// And another message.
    #[must_use]
    pub fn and<M: Name>(mut self, message: &M) -> Self {
        self.provided = self.provided.with(message);
        self
    }

    /// Changes of the database, committed together with the outcome; `rows` returns the messages
    /// that follow from them, and may be run again. Its fault is that of the step.
    pub fn rows<F>(rows: F) -> Self
    where
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<Bag, Fault>> + Send + Sync + 'static,
    {
        Self {
            provided: Bag::new(),
            rows: Some(Box::new(rows)),
            after: None,
        }
    }

    /// And `after`, once the outcome is committed: to let others forget what is now in the log.
    /// It is lost with the process; then they are asked again.
    #[must_use]
    pub fn then(mut self, after: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.after = Some(Box::new(after));
        self
    }

    pub(crate) async fn apply(&self, tx: &mut Tx) -> Result<Bag, Fault> {
        let mut provided = self.provided.clone();
        if let Some(rows) = &self.rows {
            provided.take(rows(tx).await?);
        }
        Ok(provided)
    }
}

/// What a step knows while it runs or rolls back. Calls that it makes through the mesh carry its
/// task as their idempotency key, so a step makes one mutating call, or gives each its own key.
pub struct StepContext<'a> {
    pub(crate) bag: &'a Bag,
    pub(crate) operation: &'a OperationContext,
    pub(crate) step: &'static str,
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
