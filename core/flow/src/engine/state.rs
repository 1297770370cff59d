//! Where a run is: what its log says, kept up to date in memory.

use std::sync::Arc;

use cairn_proto::fault::Fault;
use cairn_types::{ErrorCode, OperationUuid};
use prost::Message as _;

use crate::{
    Bag, Direction,
    flow::Definition,
    gc::Leaving,
    graph::Graph,
    log::{Append, Begin, Entry, Kind, Place, Recorded},
    part,
};

mod resolve;

pub(super) struct State {
    /// The steps that the run was resolved to when it began.
    pub(super) graph: Arc<Graph>,
    pub(super) places: Vec<Place>,
    /// The steps that run or roll back just now.
    pub(super) busy: Vec<bool>,
    pub(super) bag: Arc<Bag>,
    /// The number of the next record of the log.
    pub(super) sequence: i64,
    /// What the first commit writes; none after it.
    pub(super) begin: Option<Begin>,
    /// Entries that go with the next commit.
    waiting: Vec<Entry>,
    /// Why no further step is begun: the run turns as soon as none is under way.
    pub(super) stopping: Option<Fault>,
    /// The steps that failed for good, before the run turned.
    pub(super) failed: Vec<(usize, Fault)>,
    /// Why the run goes back.
    pub(super) turned: Option<Fault>,
    /// The steps that are undone, in the order of undoing.
    pub(super) undone: Vec<String>,
    /// The step that cannot be brought to its end, and why: the run ends as soon as no other step
    /// is under way.
    pub(super) given_up: Option<(usize, Direction, Fault)>,
    /// Why a rollback was given up.
    pub(super) left: Option<Fault>,
}

impl State {
    pub(super) fn fresh(flow: &Definition, bag: Bag) -> Self {
        let begin = Begin {
            flow: flow.name.clone(),
            steps: part::line(&flow.parts, flow.forward_after.as_deref()),
            bag: bag.encode_to_vec().into(),
        };
        Self {
            begin: Some(begin),
            ..Self::with(Arc::clone(&flow.graph), bag)
        }
    }

    /// Where a recorded run is; or why it cannot go on here.
    pub(super) fn of(flow: &Definition, recorded: Recorded) -> Result<Self, String> {
        if recorded.flow != flow.name {
            return Err(format!("it is a run of flow `{}`", recorded.flow));
        }
        let graph = resolve::graph(flow, &recorded.steps)?;
        let mut state = Self::with(graph, recorded.bag.clone());
        let places = recorded.places();
        for (place, leaf) in state.places.iter_mut().zip(&state.graph.leaves) {
            *place = places.get(leaf.path.as_str()).copied().unwrap_or_default();
        }
        let bag = Arc::make_mut(&mut state.bag);
        for (entry, _) in &recorded.entries {
            if entry.kind() != Kind::Outcome {
                continue;
            }
            match (entry.direction(), &entry.payload) {
                (Direction::Rollback, _) => state.undone.push(entry.step.clone()),
                (Direction::Run, Some(payload)) => bag.take(
                    Bag::decode(payload.clone())
                        .map_err(|_| format!("what {} provided cannot be decoded", entry.step))?,
                ),
                (Direction::Run, None) => {}
            }
        }
        state.sequence = recorded.sequence;
        state.turned = recorded.turned;
        Ok(state)
    }

    fn with(graph: Arc<Graph>, bag: Bag) -> Self {
        Self {
            places: vec![Place::default(); graph.leaves.len()],
            busy: vec![false; graph.leaves.len()],
            graph,
            bag: Arc::new(bag),
            sequence: 0,
            begin: None,
            waiting: Vec::new(),
            stopping: None,
            failed: Vec::new(),
            turned: None,
            undone: Vec::new(),
            given_up: None,
            left: None,
        }
    }

    /// The step's name in the log.
    pub(super) fn path(&self, index: usize) -> &str {
        &self.graph.leaves[index].path
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

    /// The next commit also writes these.
    pub(super) fn later(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.waiting.extend(entries);
    }

    /// The entries of steps that are left out.
    pub(super) fn skipped(graph: &Graph, skipped: &[usize]) -> Vec<Entry> {
        let entries = skipped.iter();
        entries
            .map(|step| Entry::new(&graph.leaves[*step].path, Direction::Run, Kind::Skipped))
            .collect()
    }

    /// The steps that may be begun and are not.
    pub(super) fn ready(&self) -> Vec<usize> {
        let ready = self.graph.ready(&self.places);
        ready.filter(|index| !self.busy[*index]).collect()
    }

    /// The steps that may be undone and are not about to be.
    pub(super) fn undoable(&self) -> Vec<usize> {
        let mut undoable = self.graph.undoable(&self.places);
        undoable.retain(|index| !self.busy[*index]);
        undoable
    }

    /// A step is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.contains(&true)
    }

    /// The fault with what was undone so far.
    pub(super) fn rolled_back(&self, mut fault: Fault) -> Fault {
        fault.rolled_back.clone_from(&self.undone);
        fault
    }

    /// The steps that are left, in the order in which they come.
    pub(super) fn left_steps(&self, direction: Direction) -> String {
        let all = 0..self.places.len();
        let left: Vec<_> = match direction {
            Direction::Rollback => all
                .rev()
                .filter(|index| self.graph.to_undo(&self.places, *index))
                .collect(),
            Direction::Run => all
                .filter(|index| !matches!(self.places[*index], Place::Done | Place::Skipped))
                .collect(),
        };
        let names: Vec<_> = left.into_iter().map(|index| self.path(index)).collect();
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
