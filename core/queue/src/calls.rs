//! Which operation called which, and so waits for its end: from that, and from the queues, it
//! follows who waits for whom, and whether somebody waits for himself.
//!
//! Only an operation that another one called can close such a circle, and only when it has to
//! wait; so nobody else pays for the look.

use std::collections::{HashMap, VecDeque};

use cairn_types::OperationUuid;

use crate::{Level, Signature, error::Cycle, error::Link, line::Turn};

/// The operations that others called, by their callers.
#[derive(Debug, Default)]
pub(crate) struct Calls(HashMap<OperationUuid, Vec<Called>>);

/// An operation in a queue, which another one called.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    pub(crate) operation: OperationUuid,
    pub(crate) signature: Signature,
    pub(crate) turn: Turn,
}

/// A circle of operations, and the one of them that is to give up.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) cycle: Cycle,
    pub(crate) youngest: Called,
}

impl Calls {
    pub(crate) fn add(&mut self, caller: OperationUuid, called: Called) {
        self.0.entry(caller).or_default().push(called);
    }

    pub(crate) fn remove(&mut self, caller: OperationUuid, operation: OperationUuid, turn: Turn) {
        if let Some(called) = self.0.get_mut(&caller) {
            called.retain(|called| (called.operation, called.turn) != (operation, turn));
            if called.is_empty() {
                self.0.remove(&caller);
                if self.0.len() < self.0.capacity() / 8 {
                    self.0.shrink_to(self.0.len() * 2);
                }
            }
        }
    }

    /// The operations that others called.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Called> {
        self.0.values().flatten()
    }

    /// The circle that `newest` is in, if it can never start. `blockers` tells of one that waits
    /// who runs in its queue, and how many may. None, too, if all who wait in it were resumed:
    /// those ran beside each other before.
    pub(crate) fn cycle(
        &self,
        newest: &Called,
        blockers: impl FnMut(&Called) -> Option<(Level, Vec<OperationUuid>)>,
    ) -> Option<Found> {
        let graph = Graph::reached_from(newest, self, blockers);
        let stuck = graph.stuck();
        let path = graph.path_back_to_start(&stuck)?;
        let link = |node: &Node| Link {
            operation: node.operation,
            queue: node
                .waits
                .as_ref()
                .map(|(called, _)| called.signature.clone()),
        };
        let waiting = path.iter().filter_map(|node| node.waits.as_ref());
        let may_go = waiting.filter(|(called, _)| !called.turn.is_resumed());
        let (youngest, _) = may_go.max_by_key(|(called, _)| called.operation)?;
        Some(Found {
            youngest: youngest.clone(),
            cycle: Cycle(path.iter().map(|node| link(node)).collect()),
        })
    }
}

/// What can be reached from one operation, along who waits for whom.
struct Graph(Vec<Node>);

struct Node {
    operation: OperationUuid,
    /// Where it waits, if it does, and how many may run there.
    waits: Option<(Called, Level)>,
    /// Those who run in its queue; or, if it runs itself, those that it called.
    needs: Vec<usize>,
}

impl Graph {
    fn reached_from(
        newest: &Called,
        calls: &Calls,
        mut blockers: impl FnMut(&Called) -> Option<(Level, Vec<OperationUuid>)>,
    ) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut known: HashMap<OperationUuid, usize> = HashMap::new();
        // Each with where it may wait; one that is met as a holder does not.
        let mut open = VecDeque::from([(newest.operation, Some(newest.clone()))]);
        known.insert(newest.operation, 0);
        let mut count = 1;
        while let Some((operation, place)) = open.pop_front() {
            let waits = place.and_then(|called| {
                let (level, running) = blockers(&called)?;
                Some((called, level, running))
            });
            let needed: Vec<(OperationUuid, Option<Called>)> = match &waits {
                Some((.., running)) => running.iter().map(|holder| (*holder, None)).collect(),
                None => {
                    let called = calls.0.get(&operation).into_iter().flatten();
                    called.map(|it| (it.operation, Some(it.clone()))).collect()
                }
            };
            let mut needs = Vec::with_capacity(needed.len());
            for (operation, place) in needed {
                let index = *known.entry(operation).or_insert_with(|| {
                    open.push_back((operation, place));
                    count += 1;
                    count - 1
                });
                needs.push(index);
            }
            nodes.push(Node {
                operation,
                waits: waits.map(|(called, level, _)| (called, level)),
                needs,
            });
        }
        Self(nodes)
    }

    /// Which of them never end: each that is not shown to.
    fn stuck(&self) -> Vec<bool> {
        let mut stuck = vec![true; self.0.len()];
        loop {
            let mut changed = false;
            for (index, node) in self.0.iter().enumerate() {
                if !stuck[index] {
                    continue;
                }
                let for_ever = node.needs.iter().filter(|needed| stuck[**needed]).count();
                let ends = match &node.waits {
                    // Those before it in the queue called nobody yet: if one can start, all can.
                    Some((_, level)) => level.free(for_ever) > 0,
                    None => for_ever == 0,
                };
                if ends {
                    stuck[index] = false;
                    changed = true;
                }
            }
            if !changed {
                return stuck;
            }
        }
    }

    /// The shortest way from the first node back to it, over those that are stuck.
    fn path_back_to_start(&self, stuck: &[bool]) -> Option<Vec<&Node>> {
        if !stuck[0] {
            return None;
        }
        let mut came_from = vec![None; self.0.len()];
        let mut open = VecDeque::from([0]);
        while let Some(index) = open.pop_front() {
            for needed in self.0[index].needs.iter().copied().filter(|n| stuck[*n]) {
                if needed == 0 {
                    let mut path = vec![&self.0[index]];
                    let mut at = index;
                    while let Some(before) = came_from[at] {
                        path.push(&self.0[before]);
                        at = before;
                    }
                    path.reverse();
                    return Some(path);
                }
                if came_from[needed].is_none() {
                    came_from[needed] = Some(index);
                    open.push_back(needed);
                }
            }
        }
        None
    }
}
