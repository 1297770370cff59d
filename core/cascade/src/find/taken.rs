//! What was found so far, and what becomes of it.

use std::{collections::HashMap, mem, sync::Arc};

use cairn_proto::{
    cascade::v1alpha1::CascadeAction,
    meta::{OnDelete, Operation, ResourceType},
};
use cairn_store::{Row, StoreError};

use super::{Blocker, Edge, Found, Node, goes};
use crate::read::{self, Rows};

/// What is to become of a resource, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    Clear,
    Detach,
    Stop,
    /// It goes with what it is a part of.
    Part,
    Delete,
}

impl Wish {
    /// Whether the resource is gone then.
    fn goes(self) -> bool {
        matches!(self, Self::Detach | Self::Part | Self::Delete)
    }

    /// What becomes of a whole because of a part.
    fn of_whole(self) -> OnDelete {
        match self {
            Self::Stop => OnDelete::Stop,
            _ => OnDelete::Delete,
        }
    }
}

/// A resource of which only the uuid is known, what is to become of it, and because of which node.
pub(super) struct Wanted {
    pub(super) resource: Arc<ResourceType>,
    pub(super) uuid: String,
    wish: Wish,
    parent: usize,
}

impl Wanted {
    /// Its place among those of its type.
    pub(super) fn key(&self) -> (&str, usize, Wish) {
        (&self.uuid, self.parent, self.wish)
    }
}

/// What the rows of a statement lead to once all are there.
#[derive(Default)]
pub(super) struct Met {
    /// Rows of resources that were not known, and because of which node each was found.
    fresh: Vec<(usize, Row)>,
    /// Wholes of which something becomes, too.
    wanted: Vec<Wanted>,
}

/// The nodes so far, what is to become of each, and the edges between them.
pub(super) struct Taken {
    pub(super) nodes: Vec<Node>,
    wishes: Vec<Wish>,
    /// Those that are stopped already.
    stopped: Vec<bool>,
    /// By noun and uuid.
    places: HashMap<String, HashMap<String, usize>>,
    edges: Vec<Edge>,
    /// Nodes that are to go, whose referrers have not been looked for.
    wave: Vec<usize>,
    /// Resources that refer to a node by a reference that does not take them with it.
    kept: Vec<Blocker>,
}

impl Taken {
    /// Only the one that it begins with, by its uuid and name. What refers to that is looked for in
    /// any case.
    pub(super) fn with(
        resource: &Arc<ResourceType>,
        (uuid, name): (String, String),
        is_stopped: bool,
        wish: Wish,
    ) -> Self {
        let mut taken = Self {
            nodes: Vec::new(),
            wishes: Vec::new(),
            stopped: Vec::new(),
            places: HashMap::new(),
            edges: Vec::new(),
            wave: Vec::new(),
            kept: Vec::new(),
        };
        let (root, _) = taken.add(resource, uuid, name, is_stopped, wish);
        taken.wave = vec![root];
        taken
    }

    /// Nodes whose referrers are to be looked for, each once.
    pub(super) fn wave(&mut self) -> Vec<usize> {
        mem::take(&mut self.wave)
    }

    pub(super) fn place(&self, noun: &str, uuid: &str) -> Option<usize> {
        self.places.get(noun)?.get(uuid).copied()
    }

    pub(super) fn is_going(&self, node: usize) -> bool {
        self.wishes[node].goes()
    }

    /// Takes up what becomes of a known resource because of `parent`; `met` keeps what is to be
    /// taken up later.
    pub(super) fn meet(
        &mut self,
        rows: &Rows<'_>,
        row: &mut Row,
        parent: usize,
        reaction: OnDelete,
        met: &mut Met,
    ) -> Result<(), StoreError> {
        let known = self.place(&rows.resource.name, read::uuid(row)?);
        match known.filter(|_| reaction != OnDelete::Refuse) {
            Some(child) => {
                if let Some(wish) = self.wish(reaction, self.stopped[child], parent) {
                    self.raise(child, wish);
                    self.take_row(rows, row, child, wish, (parent, reaction), &mut met.wanted);
                }
            }
            None => met.fresh.push((parent, mem::take(row))),
        }
        Ok(())
    }

    /// Takes up what was met and not known, in the order of the uuids. Returns the wholes of which
    /// something becomes, too.
    pub(super) fn take_met(
        &mut self,
        rows: &Rows<'_>,
        reaction: OnDelete,
        met: Met,
    ) -> Result<Vec<Wanted>, StoreError> {
        let Met {
            mut fresh,
            mut wanted,
        } = met;
        fresh.sort_unstable_by(|(_, one), (_, other)| {
            read::uuid(one).ok().cmp(&read::uuid(other).ok())
        });
        for (parent, mut row) in fresh {
            let is_stopped = rows.is_stopped(&row)?;
            let wish = self.wish(reaction, is_stopped, parent);
            if wish.is_none() && reaction != OnDelete::Refuse {
                continue;
            }
            let (uuid, name) = read::take_names(&mut row)?;
            let Some(wish) = wish else {
                self.kept.push(Blocker {
                    resource: Arc::clone(rows.resource),
                    uuid,
                    name,
                    refers_to: parent,
                });
                continue;
            };
            let (child, _) = self.add(rows.resource, uuid, name, is_stopped, wish);
            self.take_row(rows, &row, child, wish, (parent, reaction), &mut wanted);
        }
        Ok(wanted)
    }

    /// Takes up one of which only the uuid was known; `wholes` gets what it is a part of, if it is
    /// to be deleted.
    pub(super) fn take_wanted(
        &mut self,
        rows: &Rows<'_>,
        row: &Row,
        wanted: &Wanted,
        wholes: &mut Vec<Wanted>,
    ) -> Result<(), StoreError> {
        let (wish, parent, is_stopped) = (wanted.wish, wanted.parent, rows.is_stopped(row)?);
        if wish == Wish::Stop && is_stopped {
            return Ok(());
        }
        let (uuid, name) = (wanted.uuid.clone(), read::name(row)?.to_owned());
        let (child, rose) = self.add(rows.resource, uuid, name, is_stopped, wish);
        self.edges.push(Edge {
            parent,
            child,
            on_delete: wish.of_whole(),
        });
        if rose && wish == Wish::Delete {
            wholes.extend(rows.wholes(row).map(|(_, resource, uuid)| Wanted {
                resource: Arc::clone(resource),
                uuid: uuid.to_owned(),
                wish,
                parent,
            }));
        }
        Ok(())
    }

    /// What is to become of one that refers to `parent`, if anything.
    fn wish(&self, reaction: OnDelete, is_stopped: bool, parent: usize) -> Option<Wish> {
        Some(match reaction {
            OnDelete::Refuse => return None,
            OnDelete::Part => Wish::Part,
            OnDelete::Delete => Wish::Delete,
            // In a cascade that deletes nothing there is no reference to lose.
            OnDelete::Stop if is_stopped && !self.is_going(parent) => return None,
            OnDelete::Stop if is_stopped => Wish::Clear,
            OnDelete::Stop => Wish::Stop,
            OnDelete::Detach => Wish::Detach,
            OnDelete::Clear => Wish::Clear,
        })
    }

    /// Takes up what else follows from a row whose node is known; `wanted` gets the wholes of which
    /// something becomes, too.
    fn take_row(
        &mut self,
        rows: &Rows<'_>,
        row: &Row,
        child: usize,
        wish: Wish,
        (parent, reaction): (usize, OnDelete),
        wanted: &mut Vec<Wanted>,
    ) {
        let on_delete = match (reaction, wish) {
            (OnDelete::Stop, Wish::Clear) => OnDelete::Clear,
            _ => reaction,
        };
        self.edges.push(Edge {
            parent,
            child,
            on_delete,
        });
        if !matches!(reaction, OnDelete::Delete | OnDelete::Detach) {
            return;
        }
        for (field, resource, whole) in rows.wholes(row) {
            // The whole of what is deleted goes because of what the part goes for. What is
            // detached has the whole stopped before it.
            let (wish, parent) = match (wish, field.on_detach) {
                (Wish::Delete, _) => (Wish::Delete, parent),
                (_, OnDelete::Stop) => (Wish::Stop, child),
                _ => continue,
            };
            // Of one that is known, its row says nothing new, but what it is a part of.
            let known = self.place(&resource.name, whole);
            match known.filter(|child| wish == Wish::Stop || self.wishes[*child] == wish) {
                Some(child) => self.take_whole(child, wish, parent),
                None => wanted.push(Wanted {
                    resource: Arc::clone(resource),
                    uuid: whole.to_owned(),
                    wish,
                    parent,
                }),
            }
        }
    }

    /// Takes up what becomes of a known whole because of `parent`.
    fn take_whole(&mut self, whole: usize, wish: Wish, parent: usize) {
        if wish == Wish::Stop && self.stopped[whole] {
            return;
        }
        self.edges.push(Edge {
            parent,
            child: whole,
            on_delete: wish.of_whole(),
        });
        self.raise(whole, wish);
    }

    /// The node of a resource, to which at least this is to happen; and whether that is more than
    /// was known.
    fn add(
        &mut self,
        resource: &Arc<ResourceType>,
        uuid: String,
        name: String,
        is_stopped: bool,
        wish: Wish,
    ) -> (usize, bool) {
        if let Some(place) = self.place(&resource.name, &uuid) {
            return (place, self.raise(place, wish));
        }
        let place = self.nodes.len();
        let places = self.places.entry(resource.name.clone()).or_default();
        places.insert(uuid.clone(), place);
        self.nodes.push(Node {
            resource: Arc::clone(resource),
            uuid,
            name,
            action: CascadeAction::Unspecified,
        });
        self.wishes.push(wish);
        self.stopped.push(is_stopped);
        if wish.goes() {
            self.wave.push(place);
        }
        (place, true)
    }

    /// At least this is to happen to a node: whether that is more than was known.
    fn raise(&mut self, place: usize, wish: Wish) -> bool {
        let before = self.wishes[place];
        self.wishes[place] = before.max(wish);
        if wish.goes() && !before.goes() && place != 0 {
            self.wave.push(place);
        }
        wish > before
    }

    /// All of it, with what is done to each.
    pub(super) fn found(mut self, operation: &Operation) -> Found {
        let mut parts = vec![false; self.nodes.len()];
        for edge in &self.edges {
            parts[edge.child] |= edge.on_delete == OnDelete::Part && edge.parent != edge.child;
        }
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.action = match (self.wishes[place], operation) {
                (_, Operation::Other { .. }) if place == 0 => CascadeAction::Operate,
                _ if parts[place] => CascadeAction::Part,
                (Wish::Part | Wish::Delete, _) => CascadeAction::Delete,
                (Wish::Stop, _) => CascadeAction::Stop,
                (Wish::Detach, _) => CascadeAction::Detach,
                (Wish::Clear, _) => CascadeAction::Clear,
            };
        }
        let mut blockers = Vec::new();
        for kept in mem::take(&mut self.kept) {
            match self.place(&kept.resource.name, &kept.uuid) {
                // It goes for another reason: all that is left of the reference is an order.
                Some(child) if goes(self.nodes[child].action) => self.edges.push(Edge {
                    parent: kept.refers_to,
                    child,
                    on_delete: OnDelete::Refuse,
                }),
                _ => blockers.push(kept),
            }
        }
        // By numbers, which is fast: most resources are found by several references.
        self.edges.retain(|edge| edge.parent != edge.child);
        self.edges.sort_unstable();
        self.edges.dedup();
        Found {
            operation: operation.clone(),
            nodes: self.nodes,
            edges: self.edges,
            blockers,
        }
    }
}
