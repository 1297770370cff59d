//! Where a run is: what its log says, kept up to date in memory.

use std::sync::Arc;

use cairn_proto::fault::Fault;
use cairn_types::{ErrorCode, OperationUuid};
use prost::Message as _;

use crate::{
    Bag, Direction, Step,
    flow::Definition,
    gc::Leaving,
    log::{Append, Begin, Entry, Kind, Place, Recorded, join_steps},
};

pub(super) struct State {
    /// The steps that the run was resolved to when it began.
    pub(super) steps: Arc<[Arc<dyn Step>]>,
    pub(super) places: Vec<Place>,
    pub(super) bag: Bag,
    /// The step to run next, while the run goes forward.
    pub(super) next: usize,
    /// The number of the next entry of the log.
    pub(super) sequence: i64,
    /// What the first commit writes; none after it.
    pub(super) begin: Option<Begin>,
    /// Entries that go with the next commit.
    waiting: Vec<Entry>,
    /// Why the run goes back.
    pub(super) turned: Option<Fault>,
    /// The steps that are undone, in the order of undoing.
    pub(super) undone: Vec<String>,
    /// The step after which nothing is rolled back.
    pub(super) last_undoable: Option<usize>,
    /// Why a rollback was given up.
    pub(super) left: Option<Fault>,
}

impl State {
    pub(super) fn fresh(flow: &Definition, bag: Bag) -> Self {
        let steps = flow.steps.iter().map(|step| step.name());
        let begin = Begin {
            flow: flow.name,
            steps: join_steps(steps),
            bag: bag.encode_to_vec().into(),
        };
        Self {
            begin: Some(begin),
            ..Self::with(flow, flow.steps.clone(), bag)
        }
    }

    /// Where a recorded run is; or why it cannot go on here.
    pub(super) fn of(flow: &Definition, recorded: Recorded) -> Result<Self, String> {
        if recorded.flow != flow.name {
            return Err(format!("it is a run of flow `{}`", recorded.flow));
        }
        let known = |name: &String| flow.steps.iter().find(|step| step.name() == name).cloned();
        let steps: Option<Vec<_>> = recorded.steps.iter().map(known).collect();
        let steps = steps.ok_or_else(|| {
            let missing = recorded.steps.iter().filter(|name| known(name).is_none());
            let missing: Vec<_> = missing.cloned().collect();
            format!("it has steps that are not known: {}", missing.join(", "))
        })?;
        let mut state = Self::with(flow, steps, recorded.bag.clone());
        let places = recorded.places();
        for (place, step) in state.places.iter_mut().zip(state.steps.iter()) {
            *place = places.get(step.name()).copied().unwrap_or_default();
        }
        for (entry, _) in &recorded.entries {
            if entry.kind != Kind::Outcome {
                continue;
            }
            match (entry.direction, &entry.payload) {
                (Direction::Rollback, _) => state.undone.push(entry.step.clone()),
                (Direction::Run, Some(payload)) => state.bag.take(
                    Bag::decode(payload.clone())
                        .map_err(|_| format!("what {} provided cannot be decoded", entry.step))?,
                ),
                (Direction::Run, None) => {}
            }
        }
        state.sequence = recorded.entries.len() as i64;
        state.next = state
            .places
            .iter()
            .position(|place| matches!(place, Place::Untouched | Place::Begun))
            .unwrap_or(0);
        state.turned = recorded.turned;
        Ok(state)
    }

    fn with(flow: &Definition, steps: Vec<Arc<dyn Step>>, bag: Bag) -> Self {
        let last_undoable = flow.forward_after.as_ref();
        let last_undoable =
            last_undoable.and_then(|name| steps.iter().position(|step| step.name() == name));
        Self {
            places: vec![Place::default(); steps.len()],
            steps: steps.into(),
            bag,
            next: 0,
            sequence: 0,
            begin: None,
            waiting: Vec::new(),
            turned: None,
            undone: Vec::new(),
            last_undoable,
            left: None,
        }
    }

    /// What the next commit adds to the log, at least.
    pub(super) fn append(
        &self,
        operation: OperationUuid,
        entries: Vec<Entry>,
        turn: Option<Fault>,
    ) -> Append {
        Append {
            operation,
            sequence: self.sequence,
            begin: self.begin.clone(),
            entries: self.waiting.iter().cloned().chain(entries).collect(),
            turn,
        }
    }

    /// What waited for a commit was written by one.
    pub(super) fn committed(&mut self) {
        self.begin = None;
        self.waiting.clear();
    }

    /// These are left out; the next commit says so.
    pub(super) fn leave_out(&mut self, skipped: &[usize]) {
        let entries = skipped
            .iter()
            .map(|step| Entry::new(self.steps[*step].name(), Direction::Run, Kind::Skipped));
        self.waiting.extend(entries);
    }

    /// The point of no return is passed.
    pub(super) fn forward_only(&self) -> bool {
        self.last_undoable.is_some_and(|last| self.next > last)
    }

    /// The steps that did something, or may have, the last one first.
    pub(super) fn to_undo(&self) -> impl Iterator<Item = usize> {
        let places = self.places.iter().enumerate().rev();
        places
            .filter(|(_, place)| matches!(place, Place::Begun | Place::Done))
            .map(|(index, _)| index)
    }

    /// The fault with what was undone so far.
    pub(super) fn rolled_back(&self, mut fault: Fault) -> Fault {
        fault.rolled_back.clone_from(&self.undone);
        fault
    }

    /// The steps that are left when the one at `index` fails, in the order in which they come.
    pub(super) fn left_steps(&self, index: usize, direction: Direction) -> String {
        let names: Vec<_> = match direction {
            Direction::Rollback => self.to_undo().map(|i| self.steps[i].name()).collect(),
            Direction::Run => self.steps[index..].iter().map(|s| s.name()).collect(),
        };
        names.join(", ")
    }

    /// The fault of a run that ends with something left: what, why, and who goes on with it.
    pub(super) fn left_behind(&self, fault: Fault, leaving: &Leaving) -> Fault {
        let mut fault = self.rolled_back(fault);
        let what = match leaving.direction {
            Direction::Rollback => "not rolled back",
            Direction::Run => {
                fault.code = ErrorCode::LeftToGc;
                "not done, and nothing is rolled back any more"
            }
        };
        fault.message = format!(
            "{}; {what}: {}; gc-job {} goes on with it",
            fault.message, leaving.steps, leaving.operation
        );
        if let Some(left) = &self.left {
            fault.causes.push(left.message.clone());
            fault.causes.extend(left.causes.iter().cloned());
        }
        fault
    }
}

/// Which steps are left out from `from` on, and which is the first that is not.
pub(super) fn plan(steps: &[Arc<dyn Step>], bag: &Bag, from: usize) -> (Vec<usize>, Option<usize>) {
    let next = (from..steps.len()).find(|index| !steps[*index].skip(bag));
    ((from..next.unwrap_or(steps.len())).collect(), next)
}
