//! What has to be done with a resource: the references of rows, followed from wave to wave.

mod taken;

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use cairn_proto::{
    cascade::v1alpha1::CascadeAction,
    meta::{Catalog, Deletion, Field, OnDelete, Operation, ResourceType},
};
use cairn_store::{Tx, Value};

use crate::{
    CascadeError,
    read::{self, Rows},
};
use taken::{Met, Taken, Wanted, Wish};

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
    let catalog = Arc::clone(tx.catalog());
    let rows = Rows::of(&catalog, &resource);
    let Some(mut row) = rows.by_uuid(tx, vec![uuid.into()]).await?.pop() else {
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
    let is_stopped = rows.is_stopped(&row)?;
    let finder = Finder {
        catalog: &catalog,
        tx,
        operation,
        taken: Taken::with(&resource, read::take_names(&mut row)?, is_stopped, wish),
    };
    finder.run().await
}

struct Finder<'r> {
    catalog: &'r Catalog,
    tx: &'r mut Tx,
    operation: &'r Operation,
    taken: Taken,
}

impl Finder<'_> {
    async fn run(mut self) -> Result<Found, CascadeError> {
        loop {
            let mut wave = self.taken.wave();
            if wave.is_empty() {
                break;
            }
            // Known ones were met in the order of the database, which is none.
            wave.sort_unstable();
            let mut by_noun: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for node in wave {
                let noun = &self.taken.nodes[node].resource.name;
                by_noun.entry(noun.clone()).or_default().push(node);
            }
            for (noun, nodes) in by_noun {
                self.referrers(&noun, &nodes).await?;
                self.dependents(&noun, &nodes).await?;
            }
        }
        let found = self.taken.found(self.operation);
        found.check_deletions(self.catalog)?;
        Ok(found)
    }

    /// Finds those that refer to nodes of one type.
    async fn referrers(&mut self, noun: &str, nodes: &[usize]) -> Result<(), CascadeError> {
        let catalog = self.catalog;
        for (resource, field) in catalog.referrers(noun) {
            let Some(reaction) = self.reaction(nodes, field) else {
                continue;
            };
            if !self.tx.has_table(&resource.name) {
                continue;
            }
            let rows = Rows::of(catalog, resource);
            for nodes in nodes.chunks(read::AT_ONCE) {
                let uuids = nodes.iter().map(|node| &self.taken.nodes[*node].uuid);
                let uuids = uuids.map(Value::from).collect();
                let (taken, mut met) = (&mut self.taken, Met::default());
                let visited = rows.by_field(self.tx, &field.name, uuids, |row| {
                    let named = read::named(row)?;
                    match named.and_then(|named| taken.place(noun, named)) {
                        Some(parent) => taken.meet(&rows, row, parent, reaction, &mut met),
                        None => Ok(()),
                    }
                });
                visited.await?;
                let wanted = self.taken.take_met(&rows, reaction, met)?;
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
        let catalog = self.catalog;
        let Some(needed) = catalog.resource(noun) else {
            return Ok(());
        };
        for dependents in &needed.dependents {
            let resource = catalog.resource(&dependents.noun);
            let Some(resource) = resource.filter(|_| self.tx.has_table(&dependents.noun)) else {
                continue;
            };
            let (rows, action) = (Rows::of(catalog, resource), dependents.action);
            for parent in nodes.iter().copied() {
                if !self.taken.is_going(parent) {
                    continue;
                }
                let uuid = self.taken.nodes[parent].uuid.clone();
                let (taken, mut met) = (&mut self.taken, Met::default());
                let visited = rows.dependents(self.tx, needed, &uuid, dependents, |row| {
                    // It refers to nothing that goes: one that is stopped is not concerned.
                    match action == OnDelete::Delete || !rows.is_stopped(row)? {
                        true => taken.meet(&rows, row, parent, action, &mut met),
                        false => Ok(()),
                    }
                });
                visited.await?;
                let wanted = self.taken.take_met(&rows, action, met)?;
                self.load(wanted).await?;
            }
        }
        Ok(())
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
            for mut of_noun in by_noun.into_values() {
                of_noun.sort_unstable_by(|one, other| one.key().cmp(&other.key()));
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
        let mut uuids: Vec<_> = some.iter().map(|one| &one.uuid).collect();
        uuids.dedup();
        let uuids = uuids.into_iter().map(Value::from).collect();
        let rows = Rows::of(self.catalog, resource);
        let found = rows.by_uuid(self.tx, uuids).await?;
        let found = found.iter().map(|row| Ok((read::uuid(row)?, row)));
        let found = found.collect::<Result<HashMap<_, _>, CascadeError>>()?;
        let mut wholes = Vec::new();
        for one in some {
            if let Some(row) = found.get(one.uuid.as_str()) {
                self.taken.take_wanted(&rows, row, one, &mut wholes)?;
            }
        }
        Ok(wholes)
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
