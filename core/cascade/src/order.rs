//! In which order things are done: to what refers before what it refers to, to parts with their
//! wholes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cairn_proto::cascade::v1alpha1::CascadeAction;

use crate::{Found, tree::Tree};

/// Resources that something is to be done to, and which of them may be begun now. A node stands for
/// itself and its parts. What only loses a reference is left out: that is done with what it refers
/// to.
#[derive(Debug)]
pub(crate) struct Order {
    depth: Vec<u32>,
    /// How many go before it.
    waits_for: Vec<usize>,
    /// Those that wait for it.
    holds: Vec<Vec<usize>>,
    noun: Vec<usize>,
    /// Of each noun: how many are left, and which nouns go before it.
    left: Vec<usize>,
    after: Vec<Vec<usize>>,
    /// Those that have not begun, by how many they wait for.
    waiting: BTreeSet<usize>,
    /// Those that wait for none, deepest last.
    ready: BTreeSet<(u32, usize)>,
    running: usize,
    failed: bool,
    /// Those that are left until another one is done, by that one.
    left_until: BTreeMap<usize, Vec<usize>>,
}

impl Order {
    pub(crate) fn of(found: &Found) -> Self {
        let tree = Tree::of(found);
        let count = found.nodes.len();
        // Each node's whole, which may be a part itself.
        let whole = |mut node: usize| {
            while tree.part[node] {
                match tree.above[node] {
                    Some(above) => node = above,
                    None => break,
                }
            }
            node
        };
        let (mut waits_for, mut holds) = (vec![0; count], vec![Vec::new(); count]);
        let is_left_out = |node: usize| found.nodes[node].action == CascadeAction::Clear;
        let mut known = HashSet::new();
        for edge in &found.edges {
            let (first, then) = (whole(edge.child), whole(edge.parent));
            if first != then && !is_left_out(first) && known.insert((first, then)) {
                waits_for[then] += 1;
                holds[first].push(then);
            }
        }
        let mut nouns: HashMap<&str, usize> = HashMap::new();
        let mut noun = Vec::with_capacity(count);
        for node in &found.nodes {
            let next = nouns.len();
            noun.push(*nouns.entry(&node.resource.name).or_insert(next));
        }
        let (mut left, mut after) = (vec![0; nouns.len()], vec![Vec::new(); nouns.len()]);
        for (place, node) in found.nodes.iter().enumerate() {
            left[noun[place]] += usize::from(!tree.part[place] && !is_left_out(place));
            let before = node.resource.deleted_after.iter();
            after[noun[place]] = before
                .filter_map(|name| nouns.get(name.as_str()).copied())
                .filter(|before| *before != noun[place])
                .collect();
        }
        let waiting = (0..count).filter(|node| !tree.part[*node] && !is_left_out(*node));
        let waiting = waiting.collect();
        let mut order = Self {
            depth: tree.depth,
            waits_for,
            holds,
            noun,
            left,
            after,
            waiting,
            ready: BTreeSet::new(),
            running: 0,
            failed: false,
            left_until: BTreeMap::new(),
        };
        order.admit(order.waiting.clone());
        order
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.left.iter().sum()
    }

    /// The next that may begin, if one may. Where all that are left wait for each other, the
    /// deepest one begins: they go together, and so do not hold each other back. Once one has
    /// failed, they may be waiting for that one, and none of them begins.
    pub(crate) fn next(&mut self) -> Option<usize> {
        if self.ready.is_empty() && self.running == 0 {
            let stuck = match self.waited_for() {
                Some(node) => node,
                None if self.failed => return None,
                None => *self.waiting.iter().max_by_key(|node| self.depth[**node])?,
            };
            self.waiting.remove(&stuck);
            self.ready.insert((self.depth[stuck], stuck));
        }
        let (_, node) = self.ready.pop_last()?;
        self.running += 1;
        Some(node)
    }

    /// One that others are left for, and that nothing else holds but the order of types.
    fn waited_for(&self) -> Option<usize> {
        let mut nodes = self.left_until.keys().copied();
        nodes.find(|node| self.waits_for[*node] == 0 && self.waiting.contains(node))
    }

    /// One that began cannot be done before `until`, which so does not wait for it any more. Once
    /// that is done it begins again. False if that one has begun already.
    pub(crate) fn left(&mut self, node: usize, until: usize) -> bool {
        if !self.waiting.contains(&until) {
            return false;
        }
        self.running = self.running.saturating_sub(1);
        self.left_until.entry(until).or_default().push(node);
        let holds = self.holds[node].len();
        self.holds[node].retain(|held| *held != until);
        if self.holds[node].len() < holds {
            self.waits_for[until] = self.waits_for[until].saturating_sub(1);
            self.admit([until].into());
        }
        true
    }

    /// Those that are left still.
    pub(crate) fn all_left(&self) -> impl Iterator<Item = usize> {
        self.left_until.values().flatten().copied()
    }

    /// One that began failed: what has to come after it is never begun.
    pub(crate) fn failed(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.failed = true;
    }

    /// Those that have not begun.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = usize> {
        let ready = self.ready.iter().map(|(_, node)| *node);
        ready.chain(self.waiting.iter().copied())
    }

    /// One that began is done.
    pub(crate) fn done(&mut self, node: usize) {
        self.running = self.running.saturating_sub(1);
        let noun = self.noun[node];
        self.left[noun] = self.left[noun].saturating_sub(1);
        let held = std::mem::take(&mut self.holds[node]);
        for held in &held {
            self.waits_for[*held] = self.waits_for[*held].saturating_sub(1);
        }
        self.admit(held.into_iter().collect());
        let again = self.left_until.remove(&node).unwrap_or_default();
        let again = again.into_iter().map(|node| (self.depth[node], node));
        self.ready.extend(again);
        if self.left[noun] == 0 {
            let of_noun = |node: &usize| self.after[self.noun[*node]].contains(&noun);
            let freed = self.waiting.iter().copied().filter(of_noun).collect();
            self.admit(freed);
        }
    }

    fn admit(&mut self, candidates: BTreeSet<usize>) {
        for node in candidates {
            let mut before = self.after[self.noun[node]].iter();
            if self.waits_for[node] == 0
                && before.all(|noun| self.left[*noun] == 0)
                && self.waiting.remove(&node)
            {
                self.ready.insert((self.depth[node], node));
            }
        }
    }
}
