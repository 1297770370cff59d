//! A flow: its steps, checked when it is built, and how it is run.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cairn_operation::{Ended, OperationContext};
use cairn_proto::fault::Fault;
use cairn_store::{BoxFuture, Tx};
use prost::Message;

use crate::{Bag, FlowError, Step, engine};

/// How failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often a rollback, or a step past the point of no return, is tried before it is left to
    /// a job.
    pub attempts: u32,
    /// The first pause; each is twice the one before.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The pause after so many failures.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let pause = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        pause.min(self.longest)
    }
}

/// A list of steps; cheap to clone.
#[derive(Clone)]
pub struct Flow(pub(crate) Arc<Definition>);

pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Arc<dyn Step>>,
    pub(crate) inputs: Vec<String>,
    /// The step after which it only goes forward.
    pub(crate) forward_after: Option<String>,
    pub(crate) retry: Retry,
}

/// Gathers the steps of a flow.
pub struct Builder(Definition);

impl Builder {
    /// Adds a step after those that are there.
    #[must_use]
    pub fn step(mut self, step: impl Step) -> Self {
        self.0.steps.push(Arc::new(step));
        self
    }

    /// After this step nothing is rolled back: what fails is tried again, in the end by a job, and a
    /// cancel comes too late.
    ///
    /// # Errors
    /// If there is no such step yet.
    pub fn forward_after(mut self, step: &str) -> Result<Self, FlowError> {
        if !self.0.steps.iter().any(|known| known.name() == step) {
            return Err(FlowError::NoStep {
                flow: self.0.name,
                step: step.to_owned(),
            });
        }
        self.0.forward_after = Some(step.to_owned());
        Ok(self)
    }

    /// Sets how failures are tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Checks that every step has what it needs, from `inputs` (full names) or from steps before
    /// it.
    ///
    /// # Errors
    /// What does not fit.
    pub fn build(mut self, inputs: &[&str]) -> Result<Flow, FlowError> {
        let flow = self.0.name;
        let mut names = BTreeSet::new();
        let mut there: BTreeSet<&str> = inputs.iter().copied().collect();
        for step in &self.0.steps {
            let name = step.name();
            let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || !name.bytes().all(fine) {
                let step = name.to_owned();
                return Err(FlowError::Name { flow, step });
            }
            if !names.insert(name) {
                let step = name.to_owned();
                return Err(FlowError::Duplicate { flow, step });
            }
            if let Some(missing) = step.needs().iter().find(|need| !there.contains(**need)) {
                return Err(FlowError::Missing {
                    flow,
                    step: name.to_owned(),
                    message: (*missing).to_owned(),
                });
            }
            there.extend(step.provides());
        }
        self.0.inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
        Ok(Flow(Arc::new(self.0)))
    }
}

/// Makes the result in the transaction that ends the operation.
pub(crate) type Finish =
    Arc<dyn for<'t> Fn(&'t mut Tx, &'t Bag) -> BoxFuture<'t, Result<Bytes, Fault>> + Send + Sync>;

impl Flow {
    /// A flow of that name, stable once released: `create-vm-instance`.
    #[must_use]
    pub fn builder(name: &'static str) -> Builder {
        Builder(Definition {
            name,
            steps: Vec::new(),
            inputs: Vec::new(),
            forward_after: None,
            retry: Retry::default(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Runs it for an operation, or goes on where an earlier run of the operation was cut off;
    /// then `inputs` is what that run began with. `finish` makes the result: what it writes, the
    /// last step's outcome and the operation's end commit together, and its fault is that of the
    /// last step.
    ///
    /// # Errors
    /// The fault that the operation ended with, after everything was rolled back or, as the fault
    /// says, left.
    pub async fn run<R, F>(
        &self,
        cx: &OperationContext,
        inputs: Bag,
        finish: F,
    ) -> Result<Ended<R>, Fault>
    where
        R: Message + Default + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t Bag) -> BoxFuture<'t, Result<R, Fault>>
            + Send
            + Sync
            + 'static,
    {
        let finish: Finish = Arc::new(move |tx, bag| {
            let result = finish(tx, bag);
            Box::pin(async move { Ok(result.await?.encode_to_vec().into()) })
        });
        Ended::of(engine::run(&self.0, cx, inputs, finish).await?)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.0.steps.iter().map(|step| step.name()).collect();
        f.debug_struct("Flow")
            .field("name", &self.0.name)
            .field("steps", &steps)
            .finish()
    }
}
