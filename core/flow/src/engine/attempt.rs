//! One attempt at a step, in one direction: what it does outside of any transaction.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use cairn_boot::{metrics::Counters, propagation};
use cairn_operation::{At, OperationContext, Point, Then};
use cairn_proto::{call::Context, fault::Fault};
use cairn_types::ErrorCode;
use futures::FutureExt as _;
use tracing::{Instrument as _, error, info_span};

use crate::{Bag, Direction, FlowError, Outcome, StepContext, flow::Definition, graph::Graph};

static STEPS: Counters<4> = Counters::new(
    "cairn_flow_steps_total",
    "Attempts at steps of flows.",
    ["flow", "step", "direction", "outcome"],
);

/// An attempt; it holds what it needs, so that others may run beside it.
pub(super) struct Attempt<'a> {
    pub(super) flow: &'a Definition,
    pub(super) cx: &'a OperationContext,
    pub(super) graph: Arc<Graph>,
    pub(super) bag: Arc<Bag>,
    pub(super) index: usize,
    pub(super) direction: Direction,
    /// How often it has failed before.
    pub(super) failures: u32,
    /// How far the run is.
    pub(super) percent: u32,
}

/// What became of an attempt.
pub(super) struct Finished {
    pub(super) index: usize,
    pub(super) direction: Direction,
    pub(super) failures: u32,
    pub(super) result: Result<Outcome, Fault>,
}

impl Attempt<'_> {
    pub(super) async fn run(self) -> Finished {
        let result = match self.pause().await {
            Ok(()) => self.effect().await,
            Err(interrupted) => Err(interrupted),
        };
        Finished {
            index: self.index,
            direction: self.direction,
            failures: self.failures,
            result,
        }
    }

    /// Waits after a failure; an interruption of what can be undone ends that.
    async fn pause(&self) -> Result<(), Fault> {
        if self.failures == 0 {
            return Ok(());
        }
        let leaf = &self.graph.leaves[self.index];
        let bound = self.direction == Direction::Run && !leaf.forward;
        let retry = if bound {
            leaf.options.retry
        } else {
            self.flow.retry
        };
        tokio::select! {
            () = tokio::time::sleep(retry.pause(self.failures)) => Ok(()),
            fault = self.cx.cancelled(), if bound => Err(fault),
        }
    }

    async fn effect(&self) -> Result<Outcome, Fault> {
        let path = &self.graph.leaves[self.index].path;
        if let Then::Fail(fault) = self.at(Point::AfterIntent).await {
            return Err(fault);
        }
        if self.direction == Direction::Run {
            self.cx.progress(self.percent, path);
        }
        loop {
            let outcome = self.once().await?;
            match self.at(Point::AfterEffect).await {
                Then::GoOn => return Ok(outcome),
                Then::Fail(fault) => return Err(fault),
                Then::Again => {}
            }
        }
    }

    /// Does it; a panic of the step is its fault.
    async fn once(&self) -> Result<Outcome, Fault> {
        let leaf = &self.graph.leaves[self.index];
        let (path, direction) = (leaf.path.as_str(), self.direction);
        let cx = StepContext {
            bag: &self.bag,
            operation: self.cx,
            step: path,
            direction,
        };
        let mut context = Context::current();
        // A repeat after a crash finds what its call became; a new attempt makes a new call.
        context.idempotency_key = Some(match (self.cx.attempt(), self.failures) {
            (0, 0) => cx.task().to_string().into(),
            (0, n) => format!("{}/{n}", cx.task()).into(),
            (later, n) => format!("{}/{later}/{n}", cx.task()).into(),
        });
        let span = info_span!(
            "step",
            flow = self.flow.name,
            step = path,
            direction = direction.as_str()
        );
        propagation::hand_on(&span, &mut context.traceparent);
        let effect = async {
            match direction {
                Direction::Run => leaf.step.run(&cx).await,
                Direction::Rollback => leaf.step.rollback(&cx).await,
            }
        };
        let effect = async {
            let Some(limit) = leaf.options.timeout else {
                return effect.await;
            };
            let timed = tokio::time::timeout(limit, effect).await;
            timed.unwrap_or_else(|_| {
                let message = format!("step `{path}` took longer than {limit:?}");
                Err(Fault::new(ErrorCode::DeadlineExceeded, message))
            })
        };
        // After a panic nothing of the step is used again but what it shares.
        let effect = AssertUnwindSafe(context.scope(effect)).catch_unwind();
        let done = effect.instrument(span).await.unwrap_or_else(|panic| {
            let panicked = FlowError::Panicked {
                step: path.to_owned(),
                panic: panic_text(&*panic).to_owned(),
            };
            error!(error = %panicked, "step panicked");
            Err(panicked.into())
        });
        let outcome = if done.is_ok() { "ok" } else { "failed" };
        STEPS.add([&self.flow.name, path, direction.as_str(), outcome]);
        done
    }

    async fn at(&self, point: Point) -> Then {
        let at = At {
            point,
            flow: &self.flow.name,
            step: &self.graph.leaves[self.index].path,
            direction: self.direction.as_str(),
        };
        self.cx.failpoint(at).await
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
