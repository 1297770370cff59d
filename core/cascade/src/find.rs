//! What has to go with a resource: the references of rows, followed from wave to wave.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::Arc,
};

use cairn_proto::meta::{Catalog, Deletion, Field, OnDelete, ResourceType};
use cairn_store::{Row, StoreError, Tx, Value};

use crate::CascadeError;

/// How many resources one statement asks about.
const AT_ONCE: usize = 500;

/// A resource that goes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) resource: Arc<ResourceType>,
    pub(crate) uuid: String,
    pub(crate) name: String,
}

/// A reference among resources that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    /// What is referred to.
    pub(crate) parent: usize,
    /// What refers.
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

/// All that has to go with a resource, which is the first node.
#[derive(Debug)]
pub struct Found {
    pub(crate) nodes: Vec<Node>,
    /// Each once.
    pub(crate) edges: Vec<Edge>,
    pub(crate) blockers: Vec<Blocker>,
}

impl Found {
    /// Everything can be deleted: by itself, or with what it is a part of.
    fn check_deletions(&self, catalog: &Catalog) -> Result<(), CascadeError> {
        let parts = self
            .edges
            .iter()
            .filter(|edge| edge.on_delete == OnDelete::Part);
        let parts: HashSet<_> = parts.map(|edge| edge.child).collect();
        let mut known: HashMap<&str, bool> = HashMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let deleted = known
                .entry(&node.resource.name)
                .or_insert_with(|| !matches!(catalog.deletion(&node.resource), Deletion::Never));
            if !*deleted && !parts.contains(&place) {
                return Err(CascadeError::Undeletable {
                    noun: node.resource.name.clone(),
                    uuid: node.uuid.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Finds what has to go with a resource. In a transaction, also where nothing is written in it: of
/// rows that were read at different times, some would have lost what they are a part of.
///
/// # Errors
/// [`CascadeError::NoType`] and [`CascadeError::NoResource`] if there is no such thing, or what the
/// database says.
pub async fn find(tx: &mut Tx, noun: &str, uuid: &str) -> Result<Found, CascadeError> {
    let known = tx.has_table(noun);
    let resource = tx.catalog().resource(noun).filter(|_| known);
    let resource = Arc::clone(resource.ok_or_else(|| CascadeError::NoType(noun.to_owned()))?);
    let mut finder = Finder {
        catalog: Arc::clone(tx.catalog()),
        tx,
        nodes: Vec::new(),
        places: HashMap::new(),
        edges: Vec::new(),
        wave: Vec::new(),
        kept: Vec::new(),
    };
    // The wholes that it is a part of stay: it is what was asked for.
    finder.load(&resource, &[(uuid.to_owned(), None)]).await?;
    if finder.nodes.is_empty() {
        return Err(CascadeError::NoResource {
            noun: noun.to_owned(),
            uuid: uuid.to_owned(),
        });
    }
    finder.run().await
}

/// A resource that is to be deleted, and the one because of which.
type Wanted = (String, Option<usize>);

struct Finder<'r> {
    catalog: Arc<Catalog>,
    tx: &'r mut Tx,
    nodes: Vec<Node>,
    places: HashMap<(String, String), usize>,
    edges: Vec<Edge>,
    /// Nodes whose referrers have not been looked for.
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
            }
        }
        let mut blockers = Vec::new();
        for kept in self.kept {
            match self
                .places
                .get(&(kept.resource.name.clone(), kept.uuid.clone()))
            {
                // It goes for another reason: all that is left of the reference is an order.
                Some(child) => self.edges.push(Edge {
                    parent: kept.refers_to,
                    child: *child,
                    on_delete: OnDelete::Refuse,
                }),
                None => blockers.push(kept),
            }
        }
        let mut seen = HashSet::with_capacity(self.edges.len());
        self.edges
            .retain(|edge| edge.parent != edge.child && seen.insert(*edge));
        let found = Found {
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
            if !self.tx.has_table(&resource.name) {
                continue;
            }
            for nodes in nodes.chunks(AT_ONCE) {
                let uuids: HashMap<_, _> = nodes
                    .iter()
                    .map(|node| (self.nodes[*node].uuid.clone(), *node))
                    .collect();
                let values = uuids
                    .keys()
                    .map(|uuid| Value::from(uuid.as_str()))
                    .collect();
                let rows = self.select(resource, field, values).await?;
                let mut wholes = Vec::new();
                for row in rows {
                    let (uuid, name, named) = (row.text(0)?, row.text(1)?, row.opt_text(2)?);
                    let Some(&parent) = named.and_then(|named| uuids.get(&named)) else {
                        continue;
                    };
                    if field.on_delete == OnDelete::Refuse {
                        self.kept.push(Blocker {
                            resource: Arc::clone(resource),
                            uuid,
                            name,
                            refers_to: parent,
                        });
                        continue;
                    }
                    let child = self.add(resource, uuid, name);
                    self.edges.push(Edge {
                        parent,
                        child,
                        on_delete: field.on_delete,
                    });
                    if field.on_delete == OnDelete::Delete {
                        wholes.extend(wholes_of(&catalog, resource, &row, parent)?);
                    }
                }
                self.load_all(wholes).await?;
            }
        }
        Ok(())
    }

    /// The rows of a type that have one of these values in a field: uuid, name, the field, and the
    /// fields by which they are parts of others.
    async fn select(
        &mut self,
        resource: &ResourceType,
        field: &Field,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let part_of: String = part_of(resource)
            .map(|field| format!(", \"{}\"", field.name))
            .collect();
        let marks = vec!["?"; values.len()].join(", ");
        let sql = format!(
            "SELECT uuid, name, \"{field}\"{part_of} FROM \"{table}\" \
             WHERE \"{field}\" IN ({marks}) ORDER BY uuid",
            field = field.name,
            table = resource.table,
        );
        self.tx.rows(&sql, values).await
    }

    /// Adds those that are to be deleted, and of which only the uuid is known. What is not there
    /// any more is left out.
    async fn load_all(
        &mut self,
        mut wanted: Vec<(Arc<ResourceType>, Wanted)>,
    ) -> Result<(), CascadeError> {
        while !wanted.is_empty() {
            let mut by_noun: BTreeMap<String, (Arc<ResourceType>, Vec<Wanted>)> = BTreeMap::new();
            for (resource, wanted) in mem::take(&mut wanted) {
                let entry = by_noun.entry(resource.name.clone());
                entry
                    .or_insert_with(|| (resource, Vec::new()))
                    .1
                    .push(wanted);
            }
            for (resource, uuids) in by_noun.into_values() {
                wanted.extend(self.load(&resource, &uuids).await?);
            }
        }
        Ok(())
    }

    /// Adds resources of one type; returns the wholes that they are parts of.
    async fn load(
        &mut self,
        resource: &Arc<ResourceType>,
        wanted: &[Wanted],
    ) -> Result<Vec<(Arc<ResourceType>, Wanted)>, CascadeError> {
        let Some(uuid) = resource
            .field("uuid")
            .filter(|_| self.tx.has_table(&resource.name))
        else {
            return Ok(Vec::new());
        };
        let mut wholes = Vec::new();
        for wanted in wanted.chunks(AT_ONCE) {
            let values = wanted.iter().map(|(uuid, _)| Value::from(uuid.as_str()));
            let rows = self.select(resource, uuid, values.collect()).await?;
            let rows: HashMap<_, _> = rows
                .into_iter()
                .map(|row| Ok((row.text(0)?, row)))
                .collect::<Result<_, StoreError>>()?;
            for (uuid, because) in wanted {
                let Some(row) = rows.get(uuid) else { continue };
                let known = self.nodes.len();
                let child = self.add(resource, uuid.clone(), row.text(1)?);
                if let Some(parent) = *because {
                    self.edges.push(Edge {
                        parent,
                        child,
                        on_delete: OnDelete::Delete,
                    });
                }
                if child == known {
                    let parent = because.unwrap_or(child);
                    wholes.extend(wholes_of(&self.catalog, resource, row, parent)?);
                }
            }
        }
        Ok(wholes)
    }

    fn add(&mut self, resource: &Arc<ResourceType>, uuid: String, name: String) -> usize {
        let next = self.nodes.len();
        let key = (resource.name.clone(), uuid.clone());
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.nodes.push(Node {
                resource: Arc::clone(resource),
                uuid,
                name,
            });
            self.wave.push(next);
        }
        place
    }
}

/// The fields by which a type's resources are parts of others.
fn part_of(resource: &ResourceType) -> impl Iterator<Item = &Field> {
    let fields = resource.fields.iter();
    fields.filter(|field| field.on_delete == OnDelete::Part)
}

/// The wholes that a row which [`Finder::select`] read is a part of; they go because of `parent`.
fn wholes_of(
    catalog: &Catalog,
    resource: &ResourceType,
    row: &Row,
    parent: usize,
) -> Result<Vec<(Arc<ResourceType>, Wanted)>, StoreError> {
    let mut wholes = Vec::new();
    for (column, field) in (3..).zip(part_of(resource)) {
        let noun = field.references.as_deref().unwrap_or_default();
        if let (Some(uuid), Some(whole)) = (row.opt_text(column)?, catalog.resource(noun)) {
            wholes.push((Arc::clone(whole), (uuid, Some(parent))));
        }
    }
    Ok(wholes)
}
