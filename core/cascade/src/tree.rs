//! What was found as a tree for people: each resource below the one that it goes for.

use cairn_proto::{
    cascade::v1alpha1::{CascadeAction, CascadeBlocker, CascadeContent, CascadeItem},
    meta::OnDelete,
};

use crate::{Found, find::Edge};

/// The most blockers that are told.
const BLOCKERS: usize = 1_000;

/// Where each node is: below which one, and how far below the first.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) above: Vec<Option<usize>>,
    pub(crate) depth: Vec<u32>,
    /// Whether it is a part of the one above it.
    pub(crate) part: Vec<bool>,
}

impl Tree {
    /// Each below the one from which the way to the first is longest: a virtual machine below its
    /// host, and not below its zone. A part is below its whole. References in a circle are cut
    /// where the circle is closed.
    pub(crate) fn of(found: &Found) -> Self {
        let count = found.nodes.len();
        let action = |node: usize| found.nodes[node].action;
        let mut part: Vec<_> = (0..count)
            .map(|node| action(node) == CascadeAction::Part)
            .collect();
        // It is below what its action is for, not below what less would have been done for.
        let is_for = |edge: &Edge| match action(edge.child) {
            CascadeAction::Part => edge.on_delete == OnDelete::Part,
            CascadeAction::Stop => edge.on_delete == OnDelete::Stop,
            CascadeAction::Detach => edge.on_delete == OnDelete::Detach,
            CascadeAction::Clear => edge.on_delete == OnDelete::Clear,
            _ => edge.on_delete == OnDelete::Delete,
        };
        let mut below: Vec<Vec<&Edge>> = vec![Vec::new(); count];
        for edge in found.edges.iter().filter(|edge| is_for(edge)) {
            below[edge.parent].push(edge);
        }
        let order = downwards(&below);
        let mut place = vec![0; count];
        for (at, node) in order.iter().enumerate() {
            place[*node] = at;
        }
        let (mut above, mut depth) = (vec![None; count], vec![0; count]);
        for node in order {
            for edge in &below[node] {
                let child = edge.child;
                let deeper = above[child].is_none() || depth[node] + 1 > depth[child];
                if place[child] > place[node] && deeper {
                    above[child] = Some(node);
                    depth[child] = depth[node] + 1;
                }
            }
        }
        // The one way to it is the one that was cut.
        for node in 1..count {
            if above[node].is_none() {
                above[node] = Some(0);
                depth[node] = 1;
                part[node] = false;
            }
        }
        Self { above, depth, part }
    }
}

/// The nodes, those above before those below; the first is the first.
fn downwards(below: &[Vec<&Edge>]) -> Vec<usize> {
    let mut seen = vec![false; below.len()];
    let mut order = Vec::with_capacity(below.len());
    let mut path = vec![(0, 0)];
    seen[0] = true;
    while let Some((node, next)) = path.last_mut() {
        let Some(edge) = below[*node].get(*next) else {
            order.push(*node);
            path.pop();
            continue;
        };
        *next += 1;
        if !seen[edge.child] {
            seen[edge.child] = true;
            path.push((edge.child, 0));
        }
    }
    order.reverse();
    order
}

impl Found {
    /// What was found, for people and for comparing: each resource follows the one above it, in the
    /// order of nouns, names and uuids.
    #[must_use]
    pub fn content(&self) -> CascadeContent {
        let tree = Tree::of(self);
        let mut below: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (node, above) in tree.above.iter().enumerate() {
            if let Some(above) = above {
                below[*above].push(node);
            }
        }
        // Taken from the end.
        for nodes in &mut below {
            nodes.sort_by_cached_key(|node| {
                let node = &self.nodes[*node];
                std::cmp::Reverse((&node.resource.name, &node.name, &node.uuid))
            });
        }
        let mut items = Vec::with_capacity(self.nodes.len());
        let mut waiting = vec![0];
        while let Some(place) = waiting.pop() {
            let node = &self.nodes[place];
            let action = match node.action {
                // The way to its whole was cut: it is a whole by itself.
                CascadeAction::Part if !tree.part[place] => CascadeAction::Delete,
                action => action,
            };
            items.push(CascadeItem {
                resource_type: node.resource.name.clone(),
                resource_uuid: node.uuid.clone(),
                name: node.name.clone(),
                action: action.into(),
                depth: tree.depth[place],
            });
            waiting.append(&mut below[place]);
        }
        let blockers = self.blockers.iter().take(BLOCKERS).map(|blocker| {
            let refers_to = &self.nodes[blocker.refers_to];
            CascadeBlocker {
                resource_type: blocker.resource.name.clone(),
                resource_uuid: blocker.uuid.clone(),
                name: blocker.name.clone(),
                refers_to_type: refers_to.resource.name.clone(),
                refers_to_uuid: refers_to.uuid.clone(),
            }
        });
        CascadeContent {
            items,
            blockers: blockers.collect(),
            failures: Vec::new(),
        }
    }

    /// How many resources stand against it.
    #[must_use]
    pub fn blocker_count(&self) -> usize {
        self.blockers.len()
    }
}
