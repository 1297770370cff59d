//! Runs a flow: forward from boundary to boundary, or back.
//!
//! A boundary is one commit: the outcome of a step with its rows, and the intents of those that
//! come next. So at any moment the log says which steps may have done something that has no
//! outcome yet. Steps run at once where the flow says so; their boundaries follow each other.
//!
//! When a step fails for good, or the operation is cancelled, nothing further is begun; those that
//! are under way come to their end, and then the run turns.
//!
//! `cairn_flow_steps_total{flow, step, direction, outcome}` counts what steps did: `run` or
//! `rollback`, `ok` or `failed`; each attempt counts.

mod attempt;
mod commit;
mod state;

use std::{collections::VecDeque, sync::Arc};

use cairn_operation::{At, Ending, OperationContext, Point};
use cairn_proto::fault::Fault;
use cairn_types::ErrorCode;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tracing::{error, warn};

use crate::{
    Bag, Direction, FlowError, Outcome,
    flow::{Definition, Finish},
    log::{self, Entry, Place},
    outcome::After,
};

use attempt::{Attempt, Finished};
use commit::Last;
use state::State;

/// Runs the flow to the operation's end.
pub(crate) async fn run(
    flow: &Definition,
    cx: &OperationContext,
    inputs: Bag,
    finish: Finish,
) -> Result<Arc<Ending>, Fault> {
    let recorded = match cx.has_log() {
        true => log::load(cx.store(), cx.uuid()).await?,
        false => None,
    };
    let state = match recorded {
        None => {
            if let Some(missing) = flow.inputs.iter().find(|input| !inputs.holds(input)) {
                return Err(FlowError::Input {
                    flow: flow.name.clone(),
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
        running: FuturesUnordered::new(),
        finished: VecDeque::new(),
    }
    .run()
    .await
}

struct Engine<'a> {
    flow: &'a Definition,
    cx: &'a OperationContext,
    finish: Finish,
    state: State,
    running: FuturesUnordered<BoxFuture<'a, Finished>>,
    /// What came to its end while something was committed.
    finished: VecDeque<Finished>,
}

impl Engine<'_> {
    async fn run(mut self) -> Result<Arc<Ending>, Fault> {
        let mut ending = self.begin().await?;
        loop {
            if let Some(ending) = ending {
                return Ok(ending);
            }
            let finished = match self.finished.pop_front() {
                Some(finished) => Some(finished),
                None => self.running.next().await,
            };
            ending = match finished {
                None => self.idle().await?,
                Some(finished) => {
                    self.state.busy[finished.index] = false;
                    match finished.direction {
                        Direction::Run => self.ran(finished).await?,
                        Direction::Rollback => self.rolled_back(finished).await?,
                    }
                }
            };
        }
    }

    /// Announces the first steps, where that is needed.
    async fn begin(&mut self) -> Result<Option<Arc<Ending>>, Fault> {
        if self.state.turned.is_some() {
            return Ok(None);
        }
        let state = &mut self.state;
        if state.begin.is_none() {
            // Taken up again: between two steps, as it were.
            if !state.graph.forward_only(&state.places) {
                state.stopping = self.cx.check_cancelled().err();
            }
            return Ok(None);
        }
        let mut places = state.places.clone();
        let skipped = state.graph.leave_out(&mut places, &state.bag);
        let ready: Vec<_> = state.graph.ready(&places).collect();
        let inside = |index: &usize| !state.graph.leaves[*index].step.outside();
        if !ready.is_empty() && ready.iter().all(inside) {
            // Nothing happens outside before the first outcome: the run begins with that.
            let entries = State::skipped(&state.graph, &skipped);
            state.places = places;
            state.later(entries);
            return Ok(None);
        }
        for index in ready {
            self.at(Point::BeforeIntent, index, Direction::Run).await;
        }
        self.boundary_or_turn().await
    }

    /// A boundary that is not that of a step.
    async fn boundary_or_turn(&mut self) -> Result<Option<Arc<Ending>>, Fault> {
        match self.boundary(None).await {
            Ok(ended) => Ok(ended),
            Err(fault) => self.turn(fault).await,
        }
    }

    /// No step is under way: it ends, turns, or begins what comes next.
    async fn idle(&mut self) -> Result<Option<Arc<Ending>>, Fault> {
        if let Some((index, direction, fault)) = self.state.given_up.take() {
            return self.leave(fault, index, direction).await.map(Some);
        }
        if let Some(fault) = self.state.turned.clone() {
            self.undo();
            if self.running.is_empty() {
                let fault = self.state.rolled_back(fault);
                return self.insist(vec![], None, Last::Failed(fault)).await;
            }
            return Ok(None);
        }
        if let Some(fault) = self.state.stopping.take() {
            return self.turn(fault).await;
        }
        self.go_on();
        if self.running.is_empty() {
            return self.boundary_or_turn().await;
        }
        Ok(None)
    }

    /// Begins the steps that may be begun.
    fn go_on(&mut self) {
        for index in self.state.ready() {
            self.launch(index, Direction::Run, 0);
        }
    }

    /// Begins to undo the steps that may be undone.
    fn undo(&mut self) {
        for index in self.state.undoable() {
            self.launch(index, Direction::Rollback, 0);
        }
    }

    fn launch(&mut self, index: usize, direction: Direction, failures: u32) {
        let state = &mut self.state;
        state.busy[index] = true;
        let attempt = Attempt {
            flow: self.flow,
            cx: self.cx,
            graph: Arc::clone(&state.graph),
            bag: Arc::clone(&state.bag),
            index,
            direction,
            failures,
            percent: state.graph.percent(&state.places),
        };
        self.running.push(Box::pin(attempt.run()));
    }

    /// A step came to the end of an attempt.
    async fn ran(&mut self, finished: Finished) -> Result<Option<Arc<Ending>>, Fault> {
        let Finished {
            index,
            failures,
            result,
            ..
        } = finished;
        let done = match result {
            Ok(outcome) => self.done(index, outcome).await,
            Err(fault) => Err(fault),
        };
        let fault = match done {
            Ok(ended) => return Ok(ended),
            Err(fault) => fault,
        };
        let failures = failures + 1;
        let graph = Arc::clone(&self.state.graph);
        let leaf = &graph.leaves[index];
        let (step, attempts) = (leaf.path.as_str(), leaf.options.retry.attempts);
        if leaf.forward {
            warn!(
                step,
                failures,
                error = fault.message,
                "step goes only forward"
            );
            if self.is_given_up(&fault, failures) || self.cx.over_time_limit() {
                self.state
                    .given_up
                    .get_or_insert((index, Direction::Run, fault));
            } else {
                self.launch(index, Direction::Run, failures);
            }
            return Ok(None);
        }
        let mut fault = fault;
        if failures < attempts && self.state.stopping.is_none() {
            match self.cx.check_cancelled() {
                Ok(()) => {
                    warn!(step, failures, error = fault.message, "step is tried again");
                    let entry = Entry::failed(step, Direction::Run, &fault);
                    self.state.later([entry]);
                    self.launch(index, Direction::Run, failures);
                    return Ok(None);
                }
                Err(interrupted) => fault = interrupted,
            }
        }
        self.state.stopping.get_or_insert_with(|| fault.clone());
        self.state.failed.push((index, fault));
        Ok(None)
    }

    /// Commits what a step came to.
    async fn done(
        &mut self,
        index: usize,
        mut outcome: Outcome,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let after = outcome.after.take();
        if self.state.stopping.is_none() {
            let mut places = self.state.places.clone();
            places[index] = Place::Done;
            let next: Vec<_> = self.state.graph.ready(&places).collect();
            for next in next {
                if !self.state.busy[next] {
                    self.at(Point::BeforeIntent, next, Direction::Run).await;
                }
            }
        }
        let ended = self.boundary(Some((index, outcome))).await?;
        let_go(after);
        self.at(Point::AfterOutcome, index, Direction::Run).await;
        Ok(ended)
    }

    /// The rollback of a step came to the end of an attempt.
    async fn rolled_back(&mut self, finished: Finished) -> Result<Option<Arc<Ending>>, Fault> {
        let Finished {
            index,
            failures,
            result,
            ..
        } = finished;
        let undone = match result {
            Ok(mut outcome) => {
                let after = outcome.after.take();
                let mut places = self.state.places.clone();
                places[index] = Place::Undone;
                for next in self.state.graph.undoable(&places) {
                    if !self.state.busy[next] {
                        self.at(Point::BeforeIntent, next, Direction::Rollback)
                            .await;
                    }
                }
                match self.undone(index, outcome).await {
                    Ok(ended) => {
                        let_go(after);
                        self.at(Point::AfterOutcome, index, Direction::Rollback)
                            .await;
                        return Ok(ended);
                    }
                    Err(failed) => failed,
                }
            }
            Err(failed) => failed,
        };
        let failures = failures + 1;
        warn!(
            step = self.state.path(index),
            failures,
            error = undone.message,
            "rollback failed"
        );
        if !self.is_given_up(&undone, failures) && self.state.given_up.is_none() {
            self.launch(index, Direction::Rollback, failures);
            return Ok(None);
        }
        let fault = self.state.turned.clone().unwrap_or_else(|| undone.clone());
        if self.state.given_up.is_none() {
            self.state.given_up = Some((index, Direction::Rollback, fault));
            self.state.left = Some(undone);
        }
        Ok(None)
    }

    /// What fails like this is a matter for a job. What cannot be reached was tried for a while
    /// already, and somebody will say when it is back.
    fn is_given_up(&self, fault: &Fault, failures: u32) -> bool {
        failures >= self.flow.retry.attempts || fault.code == ErrorCode::AgentUnreachable
    }

    async fn at(&mut self, point: Point, index: usize, direction: Direction) {
        let at = At {
            point,
            flow: &self.flow.name,
            step: self.state.path(index),
            direction: direction.as_str(),
        };
        // Nothing is to be failed or repeated between steps.
        drop(self.cx.failpoint(at).await);
    }
}

/// Lets those go who wait for an outcome to be committed.
fn let_go(after: Option<After>) {
    if let Some(after) = after {
        after();
    }
}
