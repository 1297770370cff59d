//! The commits of a run: of boundaries, of the turn, and of what ends it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cairn_operation::{Committed, Ending, Point, Verdict};
use cairn_proto::fault::Fault;
use cairn_store::Tx;
use cairn_types::OperationUuid;
use futures::StreamExt as _;
use tracing::{error, warn};

use super::{Engine, state::State};
use crate::{
    Bag, Direction, FlowError, Outcome, Step,
    flow::Finish,
    gc::Leaving,
    graph::Graph,
    hook::{End, Hooks},
    log::{Append, Entry, Kind, Place},
};

/// The pauses before the log is written again, after the database failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often hooks may fail before a run ends without them.
const HOOKS_TRIED: u32 = 5;

/// The commit between two steps.
struct Crossing {
    operation: OperationUuid,
    /// What the log gets in any case.
    append: Append,
    /// The step that was done, if it is not the run's beginning.
    done: Option<(usize, Outcome)>,
    graph: Arc<Graph>,
    /// As they were before.
    places: Vec<Place>,
    busy: Vec<bool>,
    bag: Arc<Bag>,
    /// Why the run should not go on.
    interrupted: Option<Fault>,
    /// No other step is under way or has failed: it can turn at once.
    alone: bool,
    finish: Finish,
    hooks: Hooks,
}

/// How a commit of [`Engine::insist`] ends the operation.
pub(super) enum Last {
    /// Not at all.
    None,
    Failed(Fault),
    /// With something left to a job.
    Left(Fault, Box<Leaving>),
}

/// What a boundary leads to when the operation goes on.
struct Crossed {
    bag: Bag,
    places: Vec<Place>,
    /// The number of the next record of the log.
    sequence: i64,
    to: To,
}

enum To {
    /// Forward.
    Next,
    /// Back, as soon as no step is under way.
    Stop(Fault),
    /// Back.
    Back(Fault),
}

impl Crossing {
    async fn write(&self, tx: &mut Tx) -> Result<Verdict<Crossed>, Fault> {
        let (mut append, mut bag) = (self.append.clone(), Bag::clone(&self.bag));
        let mut places = self.places.clone();
        if let Some((index, outcome)) = &self.done {
            let leaf = &self.graph.leaves[*index];
            let provided = outcome.apply(tx).await?;
            check_provided(&*leaf.step, &leaf.path, &provided)?;
            let entry = Entry::outcome(&leaf.path, Direction::Run, &provided);
            append.entries.push(entry);
            bag.take(provided);
            places[*index] = Place::Done;
        }
        let skipped = self.graph.leave_out(&mut places, &bag);
        append.entries.extend(State::skipped(&self.graph, &skipped));
        if self.graph.is_over(&places) {
            append.write(tx).await?;
            let result = (self.finish)(tx, &bag).await?;
            let end = End {
                operation: self.operation,
                bag: &bag,
                fault: None,
            };
            self.hooks.write(tx, &end).await?;
            return Ok(Verdict::Succeeded(result));
        }
        let to = match &self.interrupted {
            Some(fault) if !self.graph.forward_only(&places) => {
                if self.alone {
                    append.entries.extend(intents_to_undo(&self.graph, &places));
                    append.turn = Some(fault.clone());
                    To::Back(fault.clone())
                } else {
                    To::Stop(fault.clone())
                }
            }
            _ => {
                let ready: Vec<_> = self.graph.ready(&places).collect();
                for next in ready.into_iter().filter(|next| !self.busy[*next]) {
                    let leaf = &self.graph.leaves[next];
                    if leaf.step.outside() {
                        places[next] = Place::Begun;
                        let intent = Entry::new(&leaf.path, Direction::Run, Kind::Intent);
                        append.entries.push(intent);
                    }
                }
                To::Next
            }
        };
        let sequence = append.write(tx).await?;
        Ok(Verdict::GoOn(Crossed {
            bag,
            places,
            sequence,
            to,
        }))
    }
}

impl Engine<'_> {
    /// Waits for a commit; meanwhile the steps that are under way go on.
    async fn beside<T>(&mut self, commit: impl Future<Output = T>) -> T {
        let mut commit = std::pin::pin!(commit);
        loop {
            tokio::select! {
                biased;
                committed = &mut commit => return committed,
                Some(finished) = self.running.next(), if !self.running.is_empty() => {
                    self.finished.push_back(finished);
                }
            }
        }
    }

    /// Commits the outcome of a step, if one was done, with the intents of the next or the end.
    pub(super) async fn boundary(
        &mut self,
        done: Option<(usize, Outcome)>,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let cx = self.cx;
        let state = &self.state;
        let interrupted = state
            .stopping
            .clone()
            .or_else(|| cx.check_cancelled().err());
        let crossing = Arc::new(Crossing {
            operation: cx.uuid(),
            append: state.append(cx.uuid(), vec![], None),
            done,
            graph: Arc::clone(&state.graph),
            places: state.places.clone(),
            busy: state.busy.clone(),
            bag: Arc::clone(&state.bag),
            interrupted,
            alone: !state.is_busy() && state.failed.is_empty(),
            finish: self.finish.clone(),
            hooks: self.hooks(),
        });
        let committed = cx.commit(move |tx| {
            let crossing = crossing.clone();
            Box::pin(async move { crossing.write(tx).await })
        });
        let crossed = match self.beside(committed).await? {
            Committed::Ended(ending) => return Ok(Some(ending)),
            Committed::GoOn(crossed) => crossed,
        };
        let state = &mut self.state;
        state.committed();
        state.bag = Arc::new(crossed.bag);
        state.sequence = crossed.sequence;
        state.places = crossed.places;
        match crossed.to {
            To::Next if state.given_up.is_none() => self.go_on(),
            To::Next => {}
            To::Stop(fault) => state.stopping = Some(fault),
            To::Back(fault) => {
                state.stopping = None;
                state.turned = Some(fault);
            }
        }
        Ok(None)
    }

    /// Turns back, because of steps that failed or between two steps.
    pub(super) async fn turn(&mut self, fault: Fault) -> Result<Option<Arc<Ending>>, Fault> {
        let mut entries = Vec::new();
        for (index, fault) in std::mem::take(&mut self.state.failed) {
            self.state.places[index] = Place::Begun;
            let path = self.state.path(index);
            entries.push(Entry::failed(path, Direction::Run, &fault));
        }
        let first = self.state.undoable();
        for index in &first {
            self.at(Point::BeforeIntent, *index, Direction::Rollback)
                .await;
        }
        entries.extend(intents_to_undo(&self.state.graph, &self.state.places));
        let end = match first.is_empty() {
            true => Last::Failed(self.state.rolled_back(fault.clone())),
            false => Last::None,
        };
        let ending = self.insist(entries, Some(fault.clone()), end).await?;
        self.state.turned = Some(fault);
        Ok(ending)
    }

    /// Commits that a step is undone, with the intents for those before it or the end.
    pub(super) async fn undone(
        &mut self,
        index: usize,
        outcome: Outcome,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let (cx, state) = (self.cx, &self.state);
        let path = state.path(index).to_owned();
        let mut places = state.places.clone();
        places[index] = Place::Undone;
        let left = (0..places.len()).any(|index| state.graph.to_undo(&places, index));
        // Hooks may fail, and that is not the fault of this rollback: they get a commit of their own.
        let end = match (&state.turned, left || self.hooks().are_some()) {
            (Some(fault), false) => {
                let mut fault = state.rolled_back(fault.clone());
                fault.rolled_back.push(path.clone());
                Some(fault)
            }
            _ => None,
        };
        let mut intents = Vec::new();
        if state.given_up.is_none() {
            let next = state.graph.undoable(&places).into_iter();
            let next = next.filter(|next| !state.busy[*next]);
            intents.extend(next.filter_map(|next| intent_to_undo(&state.graph, next)));
        }
        let append = state.append(cx.uuid(), vec![], None);
        let parts = Arc::new((append, outcome, intents, end, path.clone()));
        let committed = cx.commit(move |tx| {
            let parts = parts.clone();
            Box::pin(async move {
                let (append, outcome, intents, end, path) = &*parts;
                let mut append = append.clone();
                let provided = outcome.apply(tx).await?;
                let entry = Entry::outcome(path, Direction::Rollback, &provided);
                append.entries.push(entry);
                append.entries.extend(intents.iter().cloned());
                let sequence = append.write(tx).await?;
                Ok(match end {
                    Some(fault) => Verdict::Failed(fault.clone()),
                    None => Verdict::GoOn(sequence),
                })
            })
        });
        match self.beside(committed).await? {
            Committed::Ended(ending) => Ok(Some(ending)),
            Committed::GoOn(sequence) => {
                self.state.committed();
                self.state.sequence = sequence;
                self.state.places = places;
                self.state.undone.push(path);
                if self.state.given_up.is_none() {
                    self.undo();
                }
                Ok(None)
            }
        }
    }

    /// The hooks of a run until the operation's end. What a job does comes after it.
    fn hooks(&self) -> Hooks {
        match self.cx.attempt() {
            0 => self.flow.hooks.clone(),
            _ => Hooks::default(),
        }
    }

    /// Ends with what could not be brought to its end, and leaves that to a job.
    pub(super) async fn leave(
        &mut self,
        fault: Fault,
        index: usize,
        direction: Direction,
    ) -> Result<Arc<Ending>, Fault> {
        let path = self.state.path(index);
        let reason = self.state.left.clone().unwrap_or_else(|| fault.clone());
        let entry = Entry::failed(path, direction, &reason);
        if self.cx.attempt() > 0 {
            // The job is there, and knows what to do when an attempt failed.
            self.insist(vec![entry], None, Last::None).await?;
            return Err(reason);
        }
        let leaving = Leaving {
            operation: self.cx.uuid(),
            flow: self.flow.name.clone(),
            steps: self.state.left_steps(direction),
            direction,
            reason,
        };
        let end = self.state.left_behind(fault, &leaving);
        warn!(error = end.message, "a flow leaves something to a job");
        let end = Last::Left(end, Box::new(leaving));
        let ended = self.insist(vec![entry], None, end).await?;
        ended.ok_or_else(|| {
            FlowError::Log {
                operation: self.cx.uuid().to_string(),
                problem: "its end was not written".to_owned(),
            }
            .into()
        })
    }

    /// Writes the log, and does not give up while the database fails: nobody else can go on.
    pub(super) async fn insist(
        &mut self,
        entries: Vec<Entry>,
        turn: Option<Fault>,
        end: Last,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let append = self.state.append(self.cx.uuid(), entries, turn);
        let (fault, leaving) = match end {
            Last::None => (None, None),
            Last::Failed(fault) => (Some(fault), None),
            Last::Left(fault, leaving) => (Some(fault), Some(leaving)),
        };
        let last = fault.map(|fault| LastWords {
            operation: self.cx.uuid(),
            fault,
            leaving,
            bag: Arc::clone(&self.state.bag),
            hooks: self.hooks(),
            failures: AtomicU32::new(0),
        });
        let parts = Arc::new((append, last));
        let mut pause = FIRST_PAUSE;
        let committed = loop {
            let parts = parts.clone();
            let committed = self.cx.commit(move |tx| {
                let parts = parts.clone();
                Box::pin(async move {
                    let (append, last): &(Append, Option<LastWords>) = &parts;
                    let sequence = append.clone().write(tx).await?;
                    Ok(match last {
                        Some(last) => Verdict::Failed(last.write(tx).await?),
                        None => Verdict::GoOn(sequence),
                    })
                })
            });
            match committed.await {
                Ok(committed) => break committed,
                Err(fault) => error!(error = fault.message, "log of a flow not written"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        self.state.committed();
        Ok(match committed {
            Committed::Ended(ending) => Some(ending),
            Committed::GoOn(sequence) => {
                self.state.sequence = sequence;
                None
            }
        })
    }
}

/// The end with a fault, and the hooks that go with it.
struct LastWords {
    operation: OperationUuid,
    fault: Fault,
    /// What is left to a job.
    leaving: Option<Box<Leaving>>,
    bag: Arc<Bag>,
    hooks: Hooks,
    /// How often the hooks have failed.
    failures: AtomicU32,
}

impl LastWords {
    /// The fault to end with. Hooks that keep failing must not keep the operation from its end.
    async fn write(&self, tx: &mut Tx) -> Result<Fault, Fault> {
        if let Some(leaving) = &self.leaving {
            leaving.write(tx).await?;
        }
        let mut fault = self.fault.clone();
        if self.failures.load(Ordering::Relaxed) >= HOOKS_TRIED {
            let missing = "what its hooks write at the end is missing: they failed";
            fault.causes.push(missing.to_owned());
            return Ok(fault);
        }
        let end = End {
            operation: self.operation,
            bag: &self.bag,
            fault: Some(&fault),
        };
        let written = self.hooks.write(tx, &end).await;
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        written.map(|()| fault)
    }
}

fn intents_to_undo(graph: &Graph, places: &[Place]) -> Vec<Entry> {
    let undoable = graph.undoable(places).into_iter();
    undoable
        .filter_map(|index| intent_to_undo(graph, index))
        .collect()
}

fn intent_to_undo(graph: &Graph, index: usize) -> Option<Entry> {
    let leaf = &graph.leaves[index];
    let outside = leaf.step.outside();
    outside.then(|| Entry::new(&leaf.path, Direction::Rollback, Kind::Intent))
}

/// A step provides exactly what it declares: the steps after it were checked against that.
fn check_provided(step: &dyn Step, path: &str, provided: &Bag) -> Result<(), FlowError> {
    let mut declared = step.provides().to_vec();
    declared.sort_unstable();
    if provided.names().eq(declared.iter().copied()) {
        return Ok(());
    }
    Err(FlowError::Provided {
        step: path.to_owned(),
        declared: declared.join(", "),
        provided: provided.names().collect::<Vec<_>>().join(", "),
    })
}
