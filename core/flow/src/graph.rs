//! The steps of a flow with what comes before what, which is all that the engine knows of groups
//! and of flows in flows.

use std::sync::Arc;

use crate::{
    Bag, Options, Step,
    condition::Condition,
    log::Place,
    part::{Kind, Part},
};

/// One step in its place.
pub(crate) struct Leaf {
    /// Its name in the log: its own, behind those of the flows that it is in.
    pub(crate) path: String,
    pub(crate) step: Arc<dyn Step>,
    pub(crate) options: Options,
    pub(crate) condition: Option<Arc<Condition>>,
    /// Past the point of no return.
    pub(crate) forward: bool,
    /// The steps right before it.
    before: Vec<usize>,
}

impl Leaf {
    fn is_left_out(&self, bag: &Bag) -> bool {
        let by_flow = self.condition.as_ref();
        self.step.skip(bag) || by_flow.is_some_and(|condition| condition.leaves_out(bag))
    }
}

/// Steps; each comes behind those that are before it.
pub(crate) struct Graph {
    pub(crate) leaves: Vec<Leaf>,
    weight: u64,
}

impl Graph {
    pub(crate) fn of(parts: &[Part], forward_after: Option<&str>) -> Self {
        let mut graph = Self {
            leaves: Vec::new(),
            weight: 0,
        };
        let (mut before, mut forward) = (Vec::new(), false);
        for part in parts {
            before = graph.lay(part, "", &before, forward);
            forward |= forward_after == Some(&part.name);
        }
        let weights = graph.leaves.iter().map(|leaf| leaf.options.weight);
        graph.weight = weights.map(u64::from).sum();
        graph
    }

    /// Adds a part after `before`; returns the steps that whatever comes next is after.
    fn lay(&mut self, part: &Part, prefix: &str, before: &[usize], forward: bool) -> Vec<usize> {
        match &part.kind {
            Kind::Step {
                step,
                options,
                condition,
            } => {
                self.leaves.push(Leaf {
                    path: format!("{prefix}{}", part.name),
                    step: Arc::clone(step),
                    options: *options,
                    condition: condition.clone(),
                    forward,
                    before: before.to_vec(),
                });
                vec![self.leaves.len() - 1]
            }
            Kind::Group(parts) => {
                let ends = parts.iter();
                ends.flat_map(|part| self.lay(part, prefix, before, forward))
                    .collect()
            }
            Kind::Flow(flow) => {
                let prefix = format!("{prefix}{}/", part.name);
                flow.parts.iter().fold(before.to_vec(), |before, part| {
                    self.lay(part, &prefix, &before, forward)
                })
            }
        }
    }

    /// The steps that may run: everything before them is over.
    pub(crate) fn ready<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = usize> + 'a {
        (0..self.leaves.len()).filter(|index| {
            matches!(places[*index], Place::Untouched | Place::Begun)
                && self.leaves[*index]
                    .before
                    .iter()
                    .all(|b| is_over(places[*b]))
        })
    }

    /// Takes out, of the steps that may run, those that are to be left out of this run.
    pub(crate) fn leave_out(&self, places: &mut [Place], bag: &Bag) -> Vec<usize> {
        let mut skipped = Vec::new();
        for index in 0..self.leaves.len() {
            let leaf = &self.leaves[index];
            // Whatever comes before one has a smaller index: one pass is enough.
            if places[index] == Place::Untouched
                && leaf.before.iter().all(|before| is_over(places[*before]))
                && leaf.is_left_out(bag)
            {
                places[index] = Place::Skipped;
                skipped.push(index);
            }
        }
        skipped
    }

    /// The steps that may be undone: nothing after them did anything, or it is undone.
    pub(crate) fn undoable(&self, places: &[Place]) -> Vec<usize> {
        let mut blocked = vec![false; self.leaves.len()];
        let mut undoable = Vec::new();
        for index in (0..self.leaves.len()).rev() {
            let to_undo = self.to_undo(places, index);
            if to_undo && !blocked[index] {
                undoable.push(index);
            }
            if to_undo || blocked[index] {
                for before in &self.leaves[index].before {
                    blocked[*before] = true;
                }
            }
        }
        undoable
    }

    /// A step did something, or may have, and has a rollback.
    pub(crate) fn to_undo(&self, places: &[Place], index: usize) -> bool {
        matches!(places[index], Place::Begun | Place::Done) && self.leaves[index].options.rollback
    }

    /// Every step is done or left out.
    pub(crate) fn is_over(&self, places: &[Place]) -> bool {
        places.iter().copied().all(is_over)
    }

    /// The point of no return is passed: what is left to do only goes forward.
    pub(crate) fn forward_only(&self, places: &[Place]) -> bool {
        let mut open = self.leaves.iter().zip(places);
        !self.is_over(places) && open.all(|(leaf, place)| leaf.forward || is_over(*place))
    }

    /// How far the run is, in percent.
    pub(crate) fn percent(&self, places: &[Place]) -> u32 {
        let over = self
            .leaves
            .iter()
            .zip(places)
            .filter(|(_, place)| is_over(**place));
        let over: u64 = over.map(|(leaf, _)| u64::from(leaf.options.weight)).sum();
        u32::try_from(100 * over / self.weight.max(1)).unwrap_or(100)
    }
}

fn is_over(place: Place) -> bool {
    matches!(place, Place::Done | Place::Skipped)
}
