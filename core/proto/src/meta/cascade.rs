//! What the descriptors say about cascades: what becomes of a resource when something is done to
//! one that it needs, and by which rpcs that is done.

use std::{collections::BTreeMap, sync::Arc};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _};

use super::{Catalog, ResourceType, option};

/// What becomes of a resource when a cascade deletes the one that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnDelete {
    /// The cascade is refused, unless the resource goes for another reason.
    Refuse,
    /// It is deleted, too, before the other one.
    Delete,
    /// It is a part of the other one, whose own deletion removes it. If a cascade is to delete
    /// the part, then the whole goes.
    Part,
    /// It is stopped before; the reference is gone with the other one.
    Stop,
    /// It is a part of something else, and is taken out of that before.
    Detach,
    /// The reference is gone with the other one.
    Clear,
}

impl OnDelete {
    /// Whether the resource stays, without the reference.
    #[must_use]
    pub fn clears(self) -> bool {
        matches!(self, Self::Stop | Self::Clear)
    }

    fn of(number: i32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::Refuse,
            1 => Self::Delete,
            2 => Self::Part,
            3 => Self::Stop,
            4 => Self::Detach,
            5 => Self::Clear,
            other => return Err(format!("has {other} as an action, which is unknown")),
        })
    }
}

/// Resources that need another one to which they do not refer themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependents {
    /// Their noun.
    pub noun: String,
    /// What becomes of them when the one that they need is deleted: they are deleted or stopped.
    pub action: OnDelete,
    /// Paths from one of them, as in a query, and the field of the needed one that has the value
    /// at their ends.
    pub same: Vec<(String, String)>,
}

/// How the resources of a type are deleted.
#[derive(Debug, Clone)]
pub enum Deletion {
    /// By this rpc.
    Rpc(MethodDescriptor),
    /// The row is all that there is of one.
    Row,
    /// Not by themselves: they are parts of others, or stay.
    Never,
}

/// How the resources of a type are stopped.
#[derive(Debug, Clone)]
pub struct Stopping {
    /// By this rpc.
    pub method: MethodDescriptor,
    /// The field that says which are stopped already.
    pub field: String,
    /// Its values in those that are, as they are stored.
    pub stopped: Vec<String>,
}

/// What is done to a resource that a cascade begins with.
#[derive(Debug, Clone)]
pub enum Operation {
    /// It is deleted.
    Delete {
        /// By this rpc; if none is given, as its type is deleted.
        method: Option<MethodDescriptor>,
    },
    /// Something else.
    Other {
        /// By this rpc.
        method: MethodDescriptor,
        /// The word by which references say what becomes of those that refer to it.
        word: String,
    },
}

/// The rpcs by which cascades do something to the resources of a type.
#[derive(Debug)]
pub(super) struct Rpcs {
    deletion: Deletion,
    stopping: Option<Stopping>,
    detaching: Option<MethodDescriptor>,
    /// By the names of their rpcs.
    operations: BTreeMap<String, Operation>,
}

impl Rpcs {
    /// Those of every type, by noun.
    pub(super) fn of_all(
        pool: &DescriptorPool,
        resources: &BTreeMap<String, Arc<ResourceType>>,
    ) -> BTreeMap<String, Self> {
        let types = resources.values();
        let mut all: BTreeMap<_, _> = types
            .map(|resource| (resource.name.clone(), Self::plain(pool, resource)))
            .collect();
        let services: Vec<_> = pool.services().collect();
        for method in services.iter().flat_map(|service| service.methods()) {
            let Some(rules) = option(&method.options(), "cairn.meta.v1alpha1.rpc") else {
                continue;
            };
            let text = |name| text(&rules, name);
            let own = method.parent_service().full_name().to_owned();
            let own = resources
                .values()
                .find(|resource| own == format!("{}Service", resource.message.full_name()));
            let own = own
                .map(|resource| resource.name.clone())
                .unwrap_or_default();
            if let Some(rpcs) = all.get_mut(&text("deletes")) {
                let delete = delete(&method);
                rpcs.operations.insert(method.name().to_owned(), delete);
                rpcs.deletion = Deletion::Rpc(method.clone());
            }
            if let Some(rpcs) = all.get_mut(&text("detaches")) {
                rpcs.detaching = Some(method.clone());
            }
            let Some(rpcs) = all.get_mut(&own) else {
                continue;
            };
            if let Some(stops) = message(&rules, "stops") {
                rpcs.stopping = Some(Stopping {
                    method: method.clone(),
                    field: self::text(&stops, "field"),
                    stopped: texts(&stops, "stopped"),
                });
            }
            let word = text("cascades");
            if !word.is_empty() {
                let (name, method) = (method.name().to_owned(), method.clone());
                let other = Operation::Other { method, word };
                rpcs.operations.insert(name, other);
            }
        }
        all
    }

    /// By `Delete` with the message's name in the service of the same name. A type without a
    /// service is only rows.
    fn plain(pool: &DescriptorPool, resource: &ResourceType) -> Self {
        let service = format!("{}Service", resource.message.full_name());
        let name = format!("Delete{}", resource.message.name());
        let mut operations = BTreeMap::new();
        let deletion = match pool.get_service_by_name(&service) {
            None => Deletion::Row,
            Some(service) => match service.methods().find(|method| method.name() == name) {
                None => Deletion::Never,
                Some(method) => {
                    operations.insert(name, delete(&method));
                    Deletion::Rpc(method)
                }
            },
        };
        Self {
            deletion,
            stopping: None,
            detaching: None,
            operations,
        }
    }
}

fn delete(method: &MethodDescriptor) -> Operation {
    Operation::Delete {
        method: Some(method.clone()),
    }
}

impl Operation {
    /// The rpc that does it, if it is known.
    #[must_use]
    pub fn method(&self) -> Option<&MethodDescriptor> {
        match self {
            Self::Delete { method } => method.as_ref(),
            Self::Other { method, .. } => Some(method),
        }
    }
}

impl Catalog {
    /// How resources of that type are deleted: by the rpc that says so, or by `Delete` with the
    /// message's name in the service of the same name. A type without a service is only rows.
    #[must_use]
    pub fn deletion(&self, resource: &ResourceType) -> Deletion {
        let rpcs = self.rpcs(resource);
        rpcs.map_or(Deletion::Never, |rpcs| rpcs.deletion.clone())
    }

    /// How resources of that type are stopped, if they can be.
    #[must_use]
    pub fn stopping(&self, resource: &ResourceType) -> Option<&Stopping> {
        self.rpcs(resource)?.stopping.as_ref()
    }

    /// The rpc that takes resources of that type out of what they are parts of.
    #[must_use]
    pub fn detaching(&self, resource: &ResourceType) -> Option<&MethodDescriptor> {
        self.rpcs(resource)?.detaching.as_ref()
    }

    /// What an rpc of that name does to a resource of that type, if a cascade can begin with it:
    /// `DeleteZone`.
    #[must_use]
    pub fn operation(&self, resource: &ResourceType, rpc: &str) -> Option<&Operation> {
        self.rpcs(resource)?.operations.get(rpc)
    }

    /// The deletion of a resource of that type: by its `Delete`, if it has one.
    #[must_use]
    pub fn delete(&self, resource: &ResourceType) -> Operation {
        let delete = format!("Delete{}", resource.message.name());
        let delete = self.operation(resource, &delete).cloned();
        delete.unwrap_or_else(|| Operation::Delete {
            method: match self.deletion(resource) {
                Deletion::Rpc(method) => Some(method),
                _ => None,
            },
        })
    }

    /// What an rpc does, if a cascade can begin with it, and to resources of which type.
    #[must_use]
    pub fn cascade_of(&self, rpc: &MethodDescriptor) -> Option<(&ResourceType, &Operation)> {
        self.resources().find_map(|resource| {
            let operation = self.operation(resource, rpc.name())?;
            (operation.method() == Some(rpc)).then_some((&**resource, operation))
        })
    }

    /// The names of the rpcs that a cascade of that type can begin with.
    pub fn operations(&self, resource: &ResourceType) -> impl Iterator<Item = &str> {
        let rpcs = self.rpcs(resource).into_iter();
        rpcs.flat_map(|rpcs| rpcs.operations.keys().map(String::as_str))
    }

    pub(super) fn rpcs(&self, resource: &ResourceType) -> Option<&Rpcs> {
        self.rpcs.get(&resource.name)
    }
}

type Reactions = (OnDelete, OnDelete, Vec<(String, OnDelete)>);

/// What a field's rules say: `on_delete`, `on_detach` and `on`. An error says what is wrong.
pub(super) fn reactions(
    rules: &DynamicMessage,
    refers: bool,
    nullable: bool,
) -> Result<Reactions, String> {
    let on_delete = action(rules, "on_delete")?;
    let on_detach = action(rules, "on_detach")?;
    let on = messages(rules, "on");
    let on = on.iter().map(|on| {
        let word = text(on, "operation");
        match action(on, "action")? {
            action @ (OnDelete::Delete | OnDelete::Stop) if !word.is_empty() => Ok((word, action)),
            action => Err(format!(
                "has {action:?} on `{word}`; give a word, and DELETE or STOP"
            )),
        }
    });
    let on = on.collect::<Result<Vec<_>, String>>()?;
    if (on_delete != OnDelete::Refuse || !on.is_empty()) && !refers {
        return Err("has on_delete and references nothing".to_owned());
    }
    if on_delete.clears() && !nullable {
        return Err(format!(
            "has on_delete {on_delete:?} and always a value; make it optional"
        ));
    }
    match on_detach {
        OnDelete::Refuse => {}
        OnDelete::Stop if on_delete == OnDelete::Part => {}
        _ => return Err("has on_detach; it is STOP, and for a part".to_owned()),
    }
    Ok((on_delete, on_detach, on))
}

/// What a resource's options say of those that need one of it.
pub(super) fn dependents(options: &DynamicMessage) -> Result<Vec<Dependents>, String> {
    let all = messages(options, "dependents");
    let all = all.iter().map(|dependents| {
        let action = action(dependents, "action")?;
        if !matches!(action, OnDelete::Delete | OnDelete::Stop) {
            return Err(format!("dependents have {action:?}; give DELETE or STOP"));
        }
        let same = texts(dependents, "where").into_iter().map(|text| {
            let sides = text.split_once('=');
            let sides = sides.map(|(path, field)| (path.trim(), field.trim()));
            match sides.filter(|(path, field)| !path.is_empty() && !field.is_empty()) {
                Some((path, field)) => Ok((path.to_owned(), field.to_owned())),
                None => Err(format!("dependents have `{text}`; give `path = field`")),
            }
        });
        let same = same.collect::<Result<Vec<_>, String>>()?;
        if same.is_empty() {
            return Err("dependents say not which they are; give `where`".to_owned());
        }
        Ok(Dependents {
            noun: text(dependents, "type"),
            action,
            same,
        })
    });
    all.collect()
}

/// What is wrong with what a type says of cascades, beyond each of its fields.
pub(super) fn check(resource: &ResourceType, rpcs: Option<&Rpcs>) -> Result<(), String> {
    let stops = rpcs.and_then(|rpcs| rpcs.stopping.as_ref());
    let detaches = rpcs.is_some_and(|rpcs| rpcs.detaching.is_some());
    for field in &resource.fields {
        let name = &field.name;
        let stopped = field.on.iter().any(|(_, action)| *action == OnDelete::Stop);
        if (stopped || field.on_delete == OnDelete::Stop) && stops.is_none() {
            return Err(format!("field {name} has STOP, and no rpc `stops` it"));
        }
        if field.on_delete == OnDelete::Detach && (!detaches || stops.is_some()) {
            return Err(format!(
                "field {name} has DETACH; that is for what an rpc `detaches` and none `stops`"
            ));
        }
    }
    if let Some(stops) = stops.filter(|stops| resource.field(&stops.field).is_none()) {
        let (rpc, field) = (stops.method.name(), &stops.field);
        return Err(format!("{rpc} stops by field {field}, which is not there"));
    }
    for dependents in &resource.dependents {
        let mut fields = dependents.same.iter().map(|(_, field)| field);
        if let Some(field) = fields.find(|field| resource.field(field).is_none()) {
            return Err(format!("dependents name field {field}, which is not there"));
        }
    }
    Ok(())
}

fn action(message: &DynamicMessage, name: &str) -> Result<OnDelete, String> {
    let value = message.get_field_by_name(name);
    OnDelete::of(value.and_then(|value| value.as_enum_number()).unwrap_or(0))
}

fn text(message: &DynamicMessage, name: &str) -> String {
    let value = message.get_field_by_name(name);
    let text = value.as_ref().and_then(|value| value.as_str());
    text.unwrap_or_default().to_owned()
}

fn texts(message: &DynamicMessage, name: &str) -> Vec<String> {
    let value = message.get_field_by_name(name);
    let list = value.as_ref().and_then(|value| value.as_list());
    let texts = list.unwrap_or_default().iter();
    texts
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn messages(message: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let value = message.get_field_by_name(name);
    let list = value.as_ref().and_then(|value| value.as_list());
    let messages = list.unwrap_or_default().iter();
    messages
        .filter_map(|message| message.as_message().cloned())
        .collect()
}

/// The value of a message field that is set.
fn message(of: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let field = of.descriptor().get_field_by_name(name)?;
    if !of.has_field(&field) {
        return None;
    }
    of.get_field(&field).as_message().cloned()
}
