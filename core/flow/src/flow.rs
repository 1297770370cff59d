//! A flow: its steps, checked when it is built, and how it is run.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use cairn_operation::{Ended, OperationContext};
use cairn_proto::fault::Fault;
use cairn_store::{BoxFuture, Tx};
use prost::Message;

use crate::{
    Bag, FlowError, Hook, Options, Part, Retry, Step, When, check::check, engine, graph::Graph,
    hook::Hooks, log, part::Kind,
};

/// Steps and how they follow each other; cheap to clone.
#[derive(Clone)]
pub struct Flow(pub(crate) Arc<Definition>);

pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) inputs: Vec<String>,
    /// The part after which it only goes forward.
    pub(crate) forward_after: Option<String>,
    pub(crate) retry: Retry,
    /// Those of the flows in it among them.
    pub(crate) hooks: Hooks,
    /// Further steps, which runs of before may have had.
    pub(crate) known: Arc<Steps>,
}

/// Steps by their names.
pub(crate) type Steps = BTreeMap<&'static str, Arc<dyn Step>>;

/// Gathers the parts of a flow.
pub struct Builder {
    name: String,
    parts: Vec<Part>,
    forward_after: Option<String>,
    retry: Retry,
    hooks: Hooks,
    known: Arc<Steps>,
}

impl Builder {
    /// Adds a step, or another [`Part`], after those that are there.
    #[must_use]
    pub fn step(mut self, part: impl Into<Part>) -> Self {
        self.parts.push(part.into());
        self
    }

    /// After this part nothing is rolled back: what fails is tried again, in the end by a job, and a
    /// cancel comes too late.
    ///
    /// # Errors
    /// If there is no such part yet.
    pub fn forward_after(mut self, part: &str) -> Result<Self, FlowError> {
        if !self.parts.iter().any(|known| known.name == part) {
            return Err(FlowError::NoStep {
                flow: self.name,
                step: part.to_owned(),
            });
        }
        self.forward_after = Some(part.to_owned());
        Ok(self)
    }

    /// Sets how a rollback is tried, and with which pauses what only goes forward.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Adds rows that are written with the end of a run.
    #[must_use]
    pub fn hook(self, when: When, hook: impl Hook) -> Self {
        self.shared_hook(when, Arc::new(hook))
    }

    pub(crate) fn shared_hook(mut self, when: When, hook: Arc<dyn Hook>) -> Self {
        self.hooks.add(when, hook);
        self
    }

    pub(crate) fn known(mut self, known: Arc<Steps>) -> Self {
        self.known = known;
        self
    }

    /// Checks that every step has what it needs, from `inputs` (full names) or from steps before
    /// it.
    ///
    /// # Errors
    /// What does not fit.
    pub fn build(mut self, inputs: &[&str]) -> Result<Flow, FlowError> {
        let inputs: Vec<_> = inputs.iter().map(|input| (*input).to_owned()).collect();
        check(&self.name, &self.parts, &inputs)?;
        gather_hooks(&self.parts, &mut self.hooks);
        let graph = Graph::of(&self.parts, self.forward_after.as_deref());
        Ok(Flow(Arc::new(Definition {
            name: self.name,
            parts: self.parts,
            graph: Arc::new(graph),
            inputs,
            forward_after: self.forward_after,
            retry: self.retry,
            hooks: self.hooks,
            known: self.known,
        })))
    }
}

/// The hooks of the flows in a flow take place at its end. Those of flows in these are among
/// theirs already.
fn gather_hooks(parts: &[Part], hooks: &mut Hooks) {
    for part in parts {
        match &part.kind {
            Kind::Step { .. } => {}
            Kind::Group(parts) => gather_hooks(parts, hooks),
            Kind::Flow(inner) => hooks.extend(&inner.hooks),
        }
    }
}

/// Makes the result in the transaction that ends the operation.
pub(crate) type Finish =
    Arc<dyn for<'t> Fn(&'t mut Tx, &'t Bag) -> BoxFuture<'t, Result<Bytes, Fault>> + Send + Sync>;

impl Flow {
    /// A flow of that name, stable once released: `create-vm-instance`.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            parts: Vec::new(),
            forward_after: None,
            retry: Retry::default(),
            hooks: Hooks::default(),
            known: Arc::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The full names of the messages that it begins with.
    #[must_use]
    pub fn inputs(&self) -> &[String] {
        &self.0.inputs
    }

    /// Its steps in their order, with those of the flows in it.
    pub fn steps(&self) -> impl Iterator<Item = FlowStep<'_>> {
        self.0.graph.leaves.iter().map(|leaf| FlowStep {
            path: &leaf.path,
            step: &*leaf.step,
            options: leaf.options,
            is_conditional: leaf.condition.is_some(),
            forward: leaf.forward,
        })
    }

    /// The one of these that the operation's run began with, and this one if it has not begun. For
    /// a handler that chooses by what may change under a run, as the configuration does: a run goes
    /// on in its own flow.
    ///
    /// # Errors
    /// What the database says.
    pub async fn or_begun<'f>(
        &'f self,
        others: &[&'f Self],
        cx: &OperationContext,
    ) -> Result<&'f Self, Fault> {
        let begun = match cx.has_log() {
            true => log::load(cx.store(), cx.uuid()).await?,
            false => None,
        };
        let mut others = others.iter().copied();
        let found = begun.and_then(|begun| others.find(|flow| flow.name() == begun.flow));
        Ok(found.unwrap_or(self))
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
        let steps: Vec<_> = self.steps().map(|step| step.path).collect();
        f.debug_struct("Flow")
            .field("name", &self.0.name)
            .field("steps", &steps)
            .finish()
    }
}

/// A step in its place in a flow.
#[derive(Clone, Copy)]
pub struct FlowStep<'a> {
    /// Its name in the log: its own, behind those of the flows that it is in, `network/lease`.
    pub path: &'a str,
    /// What it does.
    pub step: &'a dyn Step,
    /// How it is tried here.
    pub options: Options,
    /// The flow says when it is left out.
    pub is_conditional: bool,
    /// It is past the point of no return.
    pub forward: bool,
}
