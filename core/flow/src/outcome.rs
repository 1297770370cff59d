//! What a step comes to.

use cairn_proto::fault::Fault;
use cairn_store::{BoxFuture, Tx};
use prost::Name;

use crate::Bag;

type Rows = dyn for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<Bag, Fault>> + Send + Sync;

/// What waits for an outcome to be committed.
pub(crate) type After = Box<dyn FnOnce() + Send + Sync>;

/// What a step comes to: messages for the steps after it, and rows that commit with it.
#[derive(Default)]
pub struct Outcome {
    provided: Bag,
    rows: Option<Box<Rows>>,
    pub(crate) after: Option<After>,
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
