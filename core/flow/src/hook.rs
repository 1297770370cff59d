//! What a service adds to the end of a flow: done, error and finally.
//!
//! A hook writes rows, in the transaction that ends the operation. So it takes place exactly once
//! for a run that began, however often the process dies: what it writes is there if and only if
//! the end is. An operation that ends before its flow began, because it was cancelled while it
//! waited for instance, has no run, and no hook.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_proto::fault::Fault;
use cairn_store::Tx;
use cairn_types::OperationUuid;

use crate::Bag;

/// When a hook takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// The flow came to its result.
    Done,
    /// The flow ends with a fault: everything is rolled back, or left as the fault says.
    Error,
    /// Either.
    Finally,
}

/// How a run ends.
pub struct End<'a> {
    /// The operation.
    pub operation: OperationUuid,
    /// What the steps handed on.
    pub bag: &'a Bag,
    /// Why there is no result, if there is none.
    pub fault: Option<&'a Fault>,
}

/// Rows that are written with the end of a run.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Writes them; it may be run again, for another try of the transaction.
    ///
    /// # Errors
    /// When the flow is done: the fault of its last step, so it turns back. When it ends with a
    /// fault already: the end is stored without the rows of any hook, and its causes say why.
    async fn write(&self, tx: &mut Tx, end: &End<'_>) -> Result<(), Fault>;
}

/// The hooks of a flow, in their order.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<(When, Arc<dyn Hook>)>);

impl Hooks {
    pub(crate) fn add(&mut self, when: When, hook: Arc<dyn Hook>) {
        self.0.push((when, hook));
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.0.extend(more.0.iter().cloned());
    }

    pub(crate) fn are_some(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) async fn write(&self, tx: &mut Tx, end: &End<'_>) -> Result<(), Fault> {
        let ended = match end.fault {
            None => When::Done,
            Some(_) => When::Error,
        };
        for phase in [ended, When::Finally] {
            for (_, hook) in self.0.iter().filter(|(when, _)| *when == phase) {
                hook.write(tx, end).await?;
            }
        }
        Ok(())
    }
}
