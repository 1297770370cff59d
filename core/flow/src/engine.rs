//! Runs a flow: forward from boundary to boundary, or back.
//!
//! A boundary is one commit: the outcome of a step with its rows, and the intent of the next. So
//! at any moment the log says which step may have done something that has no outcome yet.
//!
//! `cairn_flow_steps_total{flow, step, direction, outcome}` counts what steps did: `run` or
//! `rollback`, `ok` or `failed`; each attempt counts.

mod commit;
mod state;

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use cairn_boot::{metrics::Counters, propagation};
use cairn_operation::{At, Ending, OperationContext, Point};
use cairn_proto::{call::Context, fault::Fault};
use cairn_types::ErrorCode;
use futures::FutureExt as _;
use tracing::{Instrument as _, error, info_span, warn};

use crate::{
    Bag, Direction, FlowError, Outcome, Step, StepContext,
    flow::{Definition, Finish},
    log::{self, Place},
};

use commit::End;
use state::{State, plan};

static STEPS: Counters<4> = Counters::new(
    "cairn_flow_steps_total",
    "Attempts at steps of flows.",
    ["flow", "step", "direction", "outcome"],
);

/// Runs the flow to the operation's end.
pub(crate) async fn run(
    flow: &Definition,
    cx: &OperationContext,
    inputs: Bag,
    finish: Finish,
) -> Result<Arc<Ending>, Fault> {
    let recorded = log::load(cx.store(), cx.uuid()).await?;
    let state = match recorded {
        None => {
            if let Some(missing) = flow.inputs.iter().find(|input| !inputs.holds(input)) {
                return Err(FlowError::Input {
                    flow: flow.name,
                    message: missing.clone(),
                }
                .into());
            }
            cx.check_cancelled()?;
            State::fresh(flow, inputs)
        }
        Some(recorded) => match State::of(flow, recorded) {
            Ok(state) => state,
            Err(problem) if cx.attempt() > 0 => {
                let operation = cx.uuid().to_string();
                return Err(FlowError::Log { operation, problem }.into());
            }
            Err(problem) => {
                // To end it would leave what its steps took: it stays until a process comes that
                // knows them.
                error!(operation = %cx.uuid(), problem, "the run of a flow cannot go on here");
                std::future::pending().await
            }
        },
    };
    cx.begin_log();
    Engine {
        flow,
        cx,
        finish,
        state,
    }
    .run()
    .await
}

struct Engine<'a> {
    flow: &'a Definition,
    cx: &'a OperationContext,
    finish: Finish,
    state: State,
}

impl Engine<'_> {
    async fn run(mut self) -> Result<Arc<Ending>, Fault> {
        if let Some(ending) = self.begin().await? {
            return Ok(ending);
        }
        loop {
            let ending = match self.state.turned.clone() {
                None => self.forward().await?,
                Some(fault) => self.back(fault).await?,
            };
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    /// Announces the first step, where that is needed.
    async fn begin(&mut self) -> Result<Option<Arc<Ending>>, Fault> {
        if self.state.turned.is_some() {
            return Ok(None);
        }
        if self.state.begin.is_none() {
            // Taken up again: between two steps, as it were.
            return match self.cx.check_cancelled() {
                Err(fault) if !self.state.forward_only() => self.turn(fault, None).await,
                _ => Ok(None),
            };
        }
        let (skipped, next) = plan(&self.state.steps, &self.state.bag, 0);
        match next {
            Some(next) if !self.state.steps[next].outside() => {
                // Nothing happens outside before the first outcome: the run begins with that.
                for step in &skipped {
                    self.state.places[*step] = Place::Skipped;
                }
                self.state.leave_out(&skipped);
                self.state.next = next;
                Ok(None)
            }
            next => {
                let step = next.map_or("finish", |next| self.state.steps[next].name());
                self.at(Point::BeforeIntent, step, Direction::Run).await;
                match self.boundary(None).await {
                    Ok(ended) => Ok(ended),
                    Err(fault) => self.turn(fault, None).await,
                }
            }
        }
    }

    /// One step forward.
    async fn forward(&mut self) -> Result<Option<Arc<Ending>>, Fault> {
        let index = self.state.next;
        let step = self.state.steps[index].clone();
        let mut failures = 0;
        loop {
            self.at(Point::AfterIntent, step.name(), Direction::Run)
                .await;
            let percent = 100 * index / self.state.steps.len().max(1);
            self.cx
                .progress(u32::try_from(percent).unwrap_or(100), step.name());
            let mut after = None;
            let done = match self.effect(&step, Direction::Run, failures).await {
                Ok(mut outcome) => {
                    self.at(Point::AfterEffect, step.name(), Direction::Run)
                        .await;
                    after = outcome.after.take();
                    if let Some(next) = self.state.steps.get(index + 1) {
                        self.at(Point::BeforeIntent, next.name(), Direction::Run)
                            .await;
                    }
                    self.boundary(Some((index, outcome))).await
                }
                Err(fault) => Err(fault),
            };
            let fault = match done {
                Ok(ended) => {
                    committed(after);
                    self.at(Point::AfterOutcome, step.name(), Direction::Run)
                        .await;
                    return Ok(ended);
                }
                Err(fault) => fault,
            };
            if !self.state.forward_only() {
                return self.turn(fault, Some(index)).await;
            }
            failures += 1;
            if self.is_given_up(&fault, failures) || self.cx.over_time_limit() {
                return self.leave(fault, index, Direction::Run).await.map(Some);
            }
            warn!(
                step = step.name(),
                failures,
                error = fault.message,
                "step goes only forward"
            );
            tokio::time::sleep(self.flow.retry.pause(failures)).await;
        }
    }

    /// One step back.
    async fn back(&mut self, fault: Fault) -> Result<Option<Arc<Ending>>, Fault> {
        let Some(index) = self.state.to_undo().next() else {
            let fault = self.state.rolled_back(fault);
            return self.insist(vec![], None, End::Failed(fault)).await;
        };
        let step = self.state.steps[index].clone();
        let mut failures = 0;
        loop {
            self.at(Point::AfterIntent, step.name(), Direction::Rollback)
                .await;
            let mut after = None;
            let undone = match self.effect(&step, Direction::Rollback, failures).await {
                Ok(mut outcome) => {
                    self.at(Point::AfterEffect, step.name(), Direction::Rollback)
                        .await;
                    after = outcome.after.take();
                    if let Some(next) = self.state.to_undo().nth(1) {
                        let next = self.state.steps[next].name();
                        self.at(Point::BeforeIntent, next, Direction::Rollback)
                            .await;
                    }
                    self.undone(index, outcome, &fault).await
                }
                Err(fault) => Err(fault),
            };
            let failed = match undone {
                Ok(ended) => {
                    committed(after);
                    self.at(Point::AfterOutcome, step.name(), Direction::Rollback)
                        .await;
                    return Ok(ended);
                }
                Err(failed) => failed,
            };
            failures += 1;
            warn!(
                step = step.name(),
                failures,
                error = failed.message,
                "rollback failed"
            );
            if self.is_given_up(&failed, failures) {
                self.state.left = Some(failed);
                return self
                    .leave(fault, index, Direction::Rollback)
                    .await
                    .map(Some);
            }
            tokio::time::sleep(self.flow.retry.pause(failures)).await;
        }
    }

    /// What fails like this is a matter for a job. What cannot be reached was tried for a while
    /// already, and somebody will say when it is back.
    fn is_given_up(&self, fault: &Fault, failures: u32) -> bool {
        failures >= self.flow.retry.attempts || fault.code == ErrorCode::AgentUnreachable
    }

    /// Does what a step does outside of the transaction; its panic is its fault.
    async fn effect(
        &self,
        step: &Arc<dyn Step>,
        direction: Direction,
        attempt: u32,
    ) -> Result<Outcome, Fault> {
        let cx = StepContext {
            bag: &self.state.bag,
            operation: self.cx,
            step: step.name(),
            direction,
        };
        let mut context = Context::current();
        // A repeat after a crash finds what its call became; a new attempt makes a new call.
        context.idempotency_key = Some(match (self.cx.attempt(), attempt) {
            (0, 0) => cx.task().to_string().into(),
            (0, n) => format!("{}/{n}", cx.task()).into(),
            (later, n) => format!("{}/{later}/{n}", cx.task()).into(),
        });
        let span = info_span!(
            "step",
            flow = self.flow.name,
            step = step.name(),
            direction = direction.as_str()
        );
        propagation::hand_on(&span, &mut context.traceparent);
        let effect = async {
            match direction {
                Direction::Run => step.run(&cx).await,
                Direction::Rollback => step.rollback(&cx).await,
            }
        };
        // After a panic nothing of the step is used again but what it shares.
        let effect = AssertUnwindSafe(context.scope(effect)).catch_unwind();
        let done = effect.instrument(span).await.unwrap_or_else(|panic| {
            let panicked = FlowError::Panicked {
                step: step.name().to_owned(),
                panic: panic_text(&*panic).to_owned(),
            };
            error!(error = %panicked, "step panicked");
            Err(panicked.into())
        });
        let outcome = if done.is_ok() { "ok" } else { "failed" };
        STEPS.add([self.flow.name, step.name(), direction.as_str(), outcome]);
        done
    }

    async fn at(&self, point: Point, step: &str, direction: Direction) {
        self.cx
            .failpoint(At {
                point,
                flow: self.flow.name,
                step,
                direction: direction.as_str(),
            })
            .await;
    }
}

/// Lets those go who wait for an outcome to be committed.
fn committed(after: Option<Box<dyn FnOnce() + Send + Sync>>) {
    if let Some(after) = after {
        after();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
