//! The commits of a run: of boundaries, of the turn, and of what ends it.

use std::{sync::Arc, time::Duration};

use cairn_operation::{Committed, Ending, Point, Verdict};
use cairn_proto::fault::Fault;
use cairn_store::Tx;
use tracing::{error, warn};

use super::{Engine, state::plan};
use crate::{
    Bag, Direction, FlowError, Outcome, Step,
    flow::Finish,
    gc::Leaving,
    log::{Append, Entry, Kind, Place},
};

/// The pauses before the log is written again, after the database failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The commit between two steps.
struct Crossing {
    /// What the log gets in any case.
    append: Append,
    /// The step that was done, if it is not the run's beginning.
    done: Option<(usize, Outcome)>,
    steps: Arc<[Arc<dyn Step>]>,
    /// As it was before.
    bag: Bag,
    last_undoable: Option<usize>,
    /// Why the run should not go on.
    interrupted: Option<Fault>,
    finish: Finish,
}

/// How a commit of [`Engine::insist`] ends the operation.
pub(super) enum End {
    /// Not at all.
    None,
    Failed(Fault),
    /// With something left to a job.
    Left(Fault, Box<Leaving>),
}

/// What a boundary leads to when the operation goes on.
struct Crossed {
    bag: Bag,
    /// The number of the next entry of the log.
    sequence: i64,
    skipped: Vec<usize>,
    to: To,
}

enum To {
    /// The next step.
    Next(usize),
    /// Back.
    Back(Fault),
}

impl Crossing {
    async fn write(&self, tx: &mut Tx) -> Result<Verdict<Crossed>, Fault> {
        let (mut append, mut bag) = (self.append.clone(), self.bag.clone());
        let mut from = 0;
        if let Some((index, outcome)) = &self.done {
            let step = &self.steps[*index];
            let provided = outcome.apply(tx).await?;
            check_provided(step, &provided)?;
            let entry = Entry::outcome(step.name(), Direction::Run, &provided);
            append.entries.push(entry);
            bag.take(provided);
            from = index + 1;
        }
        let (skipped, next) = plan(&self.steps, &bag, from);
        append.entries.extend(skipped.iter().map(|step| {
            let name = self.steps[*step].name();
            Entry::new(name, Direction::Run, Kind::Skipped)
        }));
        let Some(next) = next else {
            append.write(tx).await?;
            return Ok(Verdict::Succeeded((self.finish)(tx, &bag).await?));
        };
        let may_turn = self.last_undoable.is_none_or(|last| next <= last);
        let to = match &self.interrupted {
            Some(fault) if may_turn => {
                let done = self.done.as_ref().map(|(index, _)| &self.steps[*index]);
                append.entries.extend(done.and_then(intent_to_undo));
                append.turn = Some(fault.clone());
                To::Back(fault.clone())
            }
            _ => {
                if self.steps[next].outside() {
                    let name = self.steps[next].name();
                    let intent = Entry::new(name, Direction::Run, Kind::Intent);
                    append.entries.push(intent);
                }
                To::Next(next)
            }
        };
        append.write(tx).await?;
        Ok(Verdict::GoOn(Crossed {
            bag,
            sequence: append.after(),
            skipped,
            to,
        }))
    }
}

impl Engine<'_> {
    /// Commits the outcome of a step, if one was done, with the intent of the next or the end.
    pub(super) async fn boundary(
        &mut self,
        done: Option<(usize, Outcome)>,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let index = done.as_ref().map(|(index, _)| *index);
        let crossing = Arc::new(Crossing {
            append: self.state.append(self.cx.uuid(), vec![], None),
            done,
            steps: self.state.steps.clone(),
            bag: self.state.bag.clone(),
            last_undoable: self.state.last_undoable,
            interrupted: self.cx.check_cancelled().err(),
            finish: self.finish.clone(),
        });
        let committed = self.cx.commit(move |tx| {
            let crossing = crossing.clone();
            Box::pin(async move { crossing.write(tx).await })
        });
        let crossed = match committed.await? {
            Committed::Ended(ending) => return Ok(Some(ending)),
            Committed::GoOn(crossed) => crossed,
        };
        let state = &mut self.state;
        state.committed();
        state.bag = crossed.bag;
        state.sequence = crossed.sequence;
        if let Some(done) = index {
            state.places[done] = Place::Done;
        }
        for skipped in crossed.skipped {
            state.places[skipped] = Place::Skipped;
        }
        match crossed.to {
            To::Next(next) => {
                if state.steps[next].outside() {
                    state.places[next] = Place::Begun;
                }
                state.next = next;
            }
            To::Back(fault) => state.turned = Some(fault),
        }
        Ok(None)
    }

    /// Turns back, because of a step that failed or between two steps.
    pub(super) async fn turn(
        &mut self,
        fault: Fault,
        failed: Option<usize>,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let mut entries = Vec::new();
        if let Some(index) = failed {
            self.state.places[index] = Place::Begun;
            let name = self.state.steps[index].name();
            entries.push(Entry::failed(name, Direction::Run, &fault));
        }
        let first = self.state.to_undo().next();
        let end = match first {
            Some(first) => {
                let name = self.state.steps[first].name();
                self.at(Point::BeforeIntent, name, Direction::Rollback)
                    .await;
                entries.extend(intent_to_undo(&self.state.steps[first]));
                End::None
            }
            None => End::Failed(self.state.rolled_back(fault.clone())),
        };
        let ending = self.insist(entries, Some(fault.clone()), end).await?;
        self.state.turned = Some(fault);
        Ok(ending)
    }

    /// Commits that a step is undone, with the intent for the one before it or the end.
    pub(super) async fn undone(
        &mut self,
        index: usize,
        outcome: Outcome,
        fault: &Fault,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let name = self.state.steps[index].name();
        let next = self.state.to_undo().nth(1);
        let end = next.is_none().then(|| {
            let mut fault = self.state.rolled_back(fault.clone());
            fault.rolled_back.push(name.to_owned());
            fault
        });
        let intent = next.and_then(|next| intent_to_undo(&self.state.steps[next]));
        let append = self.state.append(self.cx.uuid(), vec![], None);
        let parts = Arc::new((append, outcome, intent, end));
        let committed = self
            .cx
            .commit(move |tx| {
                let parts = parts.clone();
                Box::pin(async move {
                    let (append, outcome, intent, end) = &*parts;
                    let mut append = append.clone();
                    let provided = outcome.apply(tx).await?;
                    let entry = Entry::outcome(name, Direction::Rollback, &provided);
                    append.entries.push(entry);
                    append.entries.extend(intent.clone());
                    append.write(tx).await?;
                    Ok(match end {
                        Some(fault) => Verdict::Failed(fault.clone()),
                        None => Verdict::GoOn(append.after()),
                    })
                })
            })
            .await?;
        match committed {
            Committed::Ended(ending) => Ok(Some(ending)),
            Committed::GoOn(sequence) => {
                self.state.sequence = sequence;
                self.state.places[index] = Place::Undone;
                self.state.undone.push(name.to_owned());
                Ok(None)
            }
        }
    }

    /// Ends with what could not be brought to its end, and leaves that to a job.
    pub(super) async fn leave(
        &mut self,
        fault: Fault,
        index: usize,
        direction: Direction,
    ) -> Result<Arc<Ending>, Fault> {
        let name = self.state.steps[index].name();
        let reason = self.state.left.clone().unwrap_or_else(|| fault.clone());
        let entry = Entry::failed(name, direction, &reason);
        if self.cx.attempt() > 0 {
            // The job is there, and knows what to do when an attempt failed.
            self.insist(vec![entry], None, End::None).await?;
            return Err(reason);
        }
        let leaving = Leaving {
            operation: self.cx.uuid(),
            flow: self.flow.name,
            steps: self.state.left_steps(index, direction),
            direction,
            reason,
        };
        let end = self.state.left_behind(fault, &leaving);
        warn!(error = end.message, "a flow leaves something to a job");
        let ended = self
            .insist(vec![entry], None, End::Left(end, Box::new(leaving)))
            .await?;
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
        end: End,
    ) -> Result<Option<Arc<Ending>>, Fault> {
        let append = self.state.append(self.cx.uuid(), entries, turn);
        let sequence = append.after();
        let parts = Arc::new((append, end));
        let mut pause = FIRST_PAUSE;
        let committed = loop {
            let parts = parts.clone();
            let committed = self.cx.commit(move |tx| {
                let parts = parts.clone();
                Box::pin(async move {
                    let (append, end): &(Append, End) = &parts;
                    append.write(tx).await?;
                    Ok(match end {
                        End::None => Verdict::GoOn(()),
                        End::Failed(fault) => Verdict::Failed(fault.clone()),
                        End::Left(fault, leaving) => {
                            leaving.write(tx).await?;
                            Verdict::Failed(fault.clone())
                        }
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
        self.state.sequence = sequence;
        Ok(match committed {
            Committed::Ended(ending) => Some(ending),
            Committed::GoOn(()) => None,
        })
    }
}

fn intent_to_undo(step: &Arc<dyn Step>) -> Option<Entry> {
    step.outside()
        .then(|| Entry::new(step.name(), Direction::Rollback, Kind::Intent))
}

/// A step provides exactly what it declares: the steps after it were checked against that.
fn check_provided(step: &Arc<dyn Step>, provided: &Bag) -> Result<(), FlowError> {
    let mut declared = step.provides().to_vec();
    declared.sort_unstable();
    if provided.names().eq(declared.iter().copied()) {
        return Ok(());
    }
    Err(FlowError::Provided {
        step: step.name().to_owned(),
        declared: declared.join(", "),
        provided: provided.names().collect::<Vec<_>>().join(", "),
    })
}
