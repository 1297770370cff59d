//! What has to be done with a resource: the references of rows, followed from wave to wave.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::Arc,
};

use cairn_proto::{
    cascade::v1alpha1::CascadeAction,
    meta::{Catalog, Deletion, Field, OnDelete, Operation, ResourceType},
};
use cairn_store::Tx;

use crate::{
    CascadeError,
    read::{self, Read},
};

/// A resource that something becomes of.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) resource: Arc<ResourceType>,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) action: CascadeAction,
}

/// Why something becomes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    /// The one because of which; it is done after.
    pub(crate) parent: usize,
    /// The one that something becomes of.
    pub(crate) child: usize,
    pub(crate) on_delete: OnDelete,
}

/// A resource that refers to one that goes, and stays.
#[derive(Debug)]
pub(crate) struct Blocker {
    pub(crate) resource: Arc<ResourceType>,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) refers_to: usize,
}

/// All that has to be done with what is done to a resource, which is the first node.
#[derive(Debug)]
pub struct Found {
    pub(crate) operation: Operation,
    pub(crate) nodes: Vec<Node>,
    /// Each once, in order.
    pub(crate) edges: Vec<Edge>,
    pub(crate) blockers: Vec<Blocker>,
}

/// Finds what has to be done with a resource that is deleted. In a transaction, also where nothing
/// is written in it (`Store::snapshot`): of rows that were read at different times, some would have
/// lost what they are a part of.
///
/// # Errors
/// [`CascadeError::NoType`] and [`CascadeError::NoResource`] if there is no such thing, or what the
/// database says.
pub async fn find(tx: &mut Tx, noun: &str, uuid: &str) -> Result<Found, CascadeError> {
    let resource = tx.catalog().resource(noun);
    let operation = resource.map(|resource| tx.catalog().delete(resource));
    let operation = operation.ok_or_else(|| CascadeError::NoType(noun.to_owned()))?;
    find_for(tx, &operation, noun, uuid).await
}

/// Finds what has to be done with a resource to which something is done; see [`find`].
///
/// # Errors
/// As [`find`].
pub async fn find_for(
    tx: &mut Tx,
    operation: &Operation,
    noun: &str,
    uuid: &str,
) -> Result<Found, CascadeError> {
    let known = tx.has_table(noun);
    let resource = tx.catalog().resource(noun).filter(|_| known);
    let resource = Arc::clone(resource.ok_or_else(|| CascadeError::NoType(noun.to_owned()))?);
    let mut finder = Finder {
        catalog: Arc::clone(tx.catalog()),
        tx,
        operation,
        nodes: Vec::new(),
        wishes: Vec::new(),
        stopped: Vec::new(),
        places: HashMap::new(),
        edges: Vec::new(),
        wave: Vec::new(),
        kept: Vec::new(),
    };
    let uuids = [uuid.to_owned()];
    let Some(row) = read::by_uuid(finder.tx, &resource, &uuids).await?.pop() else {
        return Err(CascadeError::NoResource {
            noun: noun.to_owned(),
            uuid: uuid.to_owned(),
        });
    };
    // The wholes that it is a part of stay: it is what was asked for.
    let wish = match operation {
        Operation::Delete { .. } => Wish::Delete,
        Operation::Other { .. } => Wish::Clear,
    };
    let (root, _) = finder.add(&resource, row.uuid, row.name, row.is_stopped, wish);
    if wish == Wish::Clear {
        finder.wave.push(root);
    }
    finder.run().await
}

/// What is to become of a resource, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
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
struct Wanted {
    resource: Arc<ResourceType>,
    uuid: String,
    wish: Wish,
    parent: usize,
}

struct Finder<'r> {
    catalog: Arc<Catalog>,
    tx: &'r mut Tx,
    operation: &'r Operation,
    nodes: Vec<Node>,
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

impl Finder<'_> {
    async fn run(mut self) -> Result<Found, CascadeError> {
        while !self.wave.is_empty() {
            let mut by_noun: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for node in mem::take(&mut self.wave) {
                let noun = &self.nodes[node].resource.name;
                by_noun.entry(noun.clone()).or_default().push(node);
            }
            for (noun, nodes) in by_noun {
                self.referrers(&noun, &nodes).await?;
                self.dependents(&noun, &nodes).await?;
            }
        }
        let mut parts = vec![false; self.nodes.len()];
        for edge in &self.edges {
            parts[edge.child] |= edge.on_delete == OnDelete::Part && edge.parent != edge.child;
        }
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.action = match (self.wishes[place], self.operation) {
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
        let found = Found {
            operation: self.operation.clone(),
            nodes: self.nodes,
            edges: self.edges,
            blockers,
        };
        found.check_deletions(&self.catalog)?;
        Ok(found)
    }

    /// Finds those that refer to nodes of one type.
    async fn referrers(&mut self, noun: &str, nodes: &[usize]) -> Result<(), CascadeError> {
        let catalog = Arc::clone(&self.catalog);
        for (resource, field) in catalog.referrers(noun) {
            let Some(reaction) = self.reaction(nodes, field) else {
                continue;
            };
            if !self.tx.has_table(&resource.name) {
                continue;
            }
            for nodes in nodes.chunks(read::AT_ONCE) {
                let uuids = nodes.iter().map(|node| self.nodes[*node].uuid.clone());
                let uuids: Vec<_> = uuids.collect();
                let rows = read::by_field(self.tx, resource, field, &uuids).await?;
                let mut wanted = Vec::new();
                for row in rows {
                    let parent = row.named.as_ref().and_then(|named| self.place(noun, named));
                    if let Some(parent) = parent {
                        self.react(resource, row, parent, reaction, &mut wanted);
                    }
                }
                self.load(wanted).await?;
            }
        }
        Ok(())
    }

    /// What becomes of those that refer to these nodes by a field. All of them go, or there is one
    /// that stays: the first of all.
    fn reaction(&self, nodes: &[usize], field: &Field) -> Option<OnDelete> {
        match self.operation {
            Operation::Other { word, .. } if nodes.contains(&0) => {
                let mut on = field.on.iter();
                on.find(|(on, _)| on == word).map(|(_, action)| *action)
            }
            _ => Some(field.on_delete),
        }
    }

    /// Finds those that need nodes of one type, though they do not refer to them.
    async fn dependents(&mut self, noun: &str, nodes: &[usize]) -> Result<(), CascadeError> {
        let catalog = Arc::clone(&self.catalog);
        let Some(needed) = catalog.resource(noun) else {
            return Ok(());
        };
        for dependents in &needed.dependents {
            let resource = catalog.resource(&dependents.noun);
            let Some(resource) = resource.filter(|_| self.tx.has_table(&dependents.noun)) else {
                continue;
            };
            for parent in nodes.iter().copied() {
                if !self.is_going(parent) {
                    continue;
                }
                let uuid = self.nodes[parent].uuid.clone();
                let rows = read::dependents(self.tx, needed, &uuid, resource, dependents).await?;
                let mut wanted = Vec::new();
                for row in rows {
                    // It refers to nothing that goes: one that is stopped is not concerned.
                    if dependents.action == OnDelete::Delete || !row.is_stopped {
                        self.react(resource, row, parent, dependents.action, &mut wanted);
                    }
                }
                self.load(wanted).await?;
            }
        }
        Ok(())
    }

    /// Takes up what becomes of a row because of `parent`; `wanted` gets the wholes of which
    /// something becomes, too.
    fn react(
        &mut self,
        resource: &Arc<ResourceType>,
        row: Read<'_>,
        parent: usize,
        reaction: OnDelete,
        wanted: &mut Vec<Wanted>,
    ) {
        let wish = match reaction {
            OnDelete::Refuse => {
                self.kept.push(Blocker {
                    resource: Arc::clone(resource),
                    uuid: row.uuid,
                    name: row.name,
                    refers_to: parent,
                });
                return;
            }
            OnDelete::Part => Wish::Part,
            OnDelete::Delete => Wish::Delete,
            // In a cascade that deletes nothing there is no reference to lose.
            OnDelete::Stop if row.is_stopped && !self.is_going(parent) => return,
            OnDelete::Stop if row.is_stopped => Wish::Clear,
            OnDelete::Stop => Wish::Stop,
            OnDelete::Detach => Wish::Detach,
            OnDelete::Clear => Wish::Clear,
        };
        let on_delete = match (reaction, wish) {
            (OnDelete::Stop, Wish::Clear) => OnDelete::Clear,
            _ => reaction,
        };
        let (child, _) = self.add(resource, row.uuid, row.name, row.is_stopped, wish);
        self.edges.push(Edge {
            parent,
            child,
            on_delete,
        });
        if !matches!(reaction, OnDelete::Delete | OnDelete::Detach) {
            return;
        }
        for (field, whole) in row.wholes {
            let noun = field.references.as_deref().unwrap_or_default();
            let Some(resource) = self.catalog.resource(noun) else {
                continue;
            };
            // The whole of what is deleted goes because of what the part goes for. What is
            // detached has the whole stopped before it.
            let (wish, parent) = match (wish, field.on_detach) {
                (Wish::Delete, _) => (Wish::Delete, parent),
                (_, OnDelete::Stop) => (Wish::Stop, child),
                _ => continue,
            };
            // Of one that is known, its row says nothing new, but what it is a part of.
            let known = self.place(noun, &whole);
            match known.filter(|child| wish == Wish::Stop || self.wishes[*child] == wish) {
                Some(child) => self.take_whole(child, wish, parent),
                None => wanted.push(Wanted {
                    resource: Arc::clone(resource),
                    uuid: whole,
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

    /// Takes up resources of which only the uuids are known. What is not there any more is left
    /// out.
    async fn load(&mut self, mut wanted: Vec<Wanted>) -> Result<(), CascadeError> {
        while !wanted.is_empty() {
            let mut by_noun: BTreeMap<String, Vec<Wanted>> = BTreeMap::new();
            for one in mem::take(&mut wanted) {
                let entry = by_noun.entry(one.resource.name.clone());
                entry.or_default().push(one);
            }
            for of_noun in by_noun.into_values() {
                for some in of_noun.chunks(read::AT_ONCE) {
                    wanted.extend(self.load_some(some).await?);
                }
            }
        }
        Ok(())
    }

    /// Takes up resources of one type; returns their wholes, if they are to be deleted.
    async fn load_some(&mut self, some: &[Wanted]) -> Result<Vec<Wanted>, CascadeError> {
        let Some(Wanted { resource, .. }) = some.first() else {
            return Ok(Vec::new());
        };
        if !self.tx.has_table(&resource.name) {
            return Ok(Vec::new());
        }
        let uuids: HashSet<_> = some.iter().map(|one| one.uuid.clone()).collect();
        let uuids: Vec<_> = uuids.into_iter().collect();
        let rows = read::by_uuid(self.tx, resource, &uuids).await?;
        let rows: HashMap<_, _> = rows
            .into_iter()
            .map(|row| (row.uuid.clone(), row))
            .collect();
        let mut wholes = Vec::new();
        for one in some {
            let Some(row) = rows.get(&one.uuid) else {
                continue;
            };
            if one.wish == Wish::Stop && row.is_stopped {
                continue;
            }
            let (name, parent) = (row.name.clone(), one.parent);
            let (child, rose) =
                self.add(resource, one.uuid.clone(), name, row.is_stopped, one.wish);
            self.edges.push(Edge {
                parent,
                child,
                on_delete: one.wish.of_whole(),
            });
            if !rose || one.wish != Wish::Delete {
                continue;
            }
            for (field, uuid) in &row.wholes {
                let noun = field.references.as_deref().unwrap_or_default();
                if let Some(resource) = self.catalog.resource(noun) {
                    wholes.push(Wanted {
                        resource: Arc::clone(resource),
                        uuid: uuid.clone(),
                        wish: Wish::Delete,
                        parent,
                    });
                }
            }
        }
        Ok(wholes)
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

    fn place(&self, noun: &str, uuid: &str) -> Option<usize> {
        self.places.get(noun)?.get(uuid).copied()
    }

    fn is_going(&self, node: usize) -> bool {
        self.wishes[node].goes()
    }
}

impl Found {
    /// Everything can be deleted: by itself, or with what it is a part of.
    fn check_deletions(&self, catalog: &Catalog) -> Result<(), CascadeError> {
        let deleted = self.nodes.iter();
        let mut deleted = deleted.filter(|node| node.action == CascadeAction::Delete);
        let never = |node: &&Node| matches!(catalog.deletion(&node.resource), Deletion::Never);
        match deleted.find(never) {
            None => Ok(()),
            Some(node) => Err(CascadeError::Undeletable {
                noun: node.resource.name.clone(),
                uuid: node.uuid.clone(),
            }),
        }
    }
}

/// Whether a resource is gone after an action.
pub(crate) fn goes(action: CascadeAction) -> bool {
    use CascadeAction::{Delete, Detach, Part};
    matches!(action, Delete | Detach | Part)
}
