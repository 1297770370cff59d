//! What the descriptors say about resources and rpcs, read at run time: the store, the query
//! engine, the public door and the CLI know a resource through this and nothing else.

mod cascade;
mod field;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, ReflectMessage as _, Value,
};
use prost_types::Timestamp;

pub use cascade::{Deletion, Dependents, OnDelete, Operation, Stopping};
pub use field::{EnumNames, Field, FieldKind, Width};

/// A message that is a resource; implemented by generated code.
pub trait Resource: Message + Name + Default + Clone + 'static {
    /// The noun: `vm-instance`.
    const NOUN: &'static str;
    /// Its identity.
    fn uuid(&self) -> &str;
    /// The account that owns it.
    fn account_mut(&mut self) -> &mut String;
    /// Sets the time of the last operation, and the first time that of creation.
    fn stamp(&mut self, now: Timestamp);
}

/// A type of resource, from its descriptor.
#[derive(Debug)]
pub struct ResourceType {
    /// The noun, kebab-case: `vm-instance`.
    pub name: String,
    /// For many: `vm-instances`.
    pub plural: String,
    /// Its table: `vm_instance`.
    pub table: String,
    /// What a table shows of it besides uuid and name; json names.
    pub columns: Vec<String>,
    /// The nouns of what goes before it in a cascade, though no reference says so.
    pub deleted_after: Vec<String>,
    /// Others that need one of its resources, though no reference says so.
    pub dependents: Vec<Dependents>,
    /// Its fields, in the order of their numbers; each is a column of the table.
    pub fields: Vec<Field>,
    /// Its message.
    pub message: MessageDescriptor,
}

impl ResourceType {
    /// The field of that name, in snake_case or lowerCamelCase.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.name == name || field.json_name == name)
    }
}

/// A descriptor pool that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The bytes are not a descriptor set, or it contradicts what is there.
    #[error("the descriptors cannot be read")]
    Descriptors(#[source] prost_reflect::DescriptorError),
    /// A resource breaks the convention.
    #[error("resource {resource}: {problem}")]
    Resource {
        /// The message.
        resource: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// Every type of resource that is known, by its noun.
#[derive(Debug)]
pub struct Catalog {
    pool: DescriptorPool,
    resources: BTreeMap<String, Arc<ResourceType>>,
    /// Of each noun, what is done to its resources in cascades.
    rpcs: BTreeMap<String, cascade::Rpcs>,
}

static BUILT_IN: LazyLock<Arc<Catalog>> = LazyLock::new(|| match Catalog::with(&[]) {
    Ok(catalog) => Arc::new(catalog),
    #[expect(
        clippy::panic,
        reason = "the built-in descriptors are constant; a test reads them"
    )]
    Err(error) => panic!("{}", cairn_types::chain(&error)),
});

impl Catalog {
    /// What Cairn itself brings.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        Arc::clone(&BUILT_IN)
    }

    /// What Cairn brings and these encoded `FileDescriptorSet`s: those of plugins.
    ///
    /// # Errors
    /// [`CatalogError`] if a set cannot be read or a resource in it breaks the convention.
    pub fn with(more: &[&[u8]]) -> Result<Self, CatalogError> {
        let mut pool = DescriptorPool::new();
        for set in std::iter::once(crate::DESCRIPTORS).chain(more.iter().copied()) {
            pool.decode_file_descriptor_set(set)
                .map_err(CatalogError::Descriptors)?;
        }
        Self::of(pool)
    }

    /// The resources of a pool.
    ///
    /// # Errors
    /// [`CatalogError`] if a resource breaks the convention.
    pub fn of(pool: DescriptorPool) -> Result<Self, CatalogError> {
        let mut resources = BTreeMap::new();
        for message in pool.all_messages() {
            let Some(options) = option(&message.options(), "cairn.meta.v1alpha1.resource") else {
                continue;
            };
            let resource = Arc::new(field::resource(&message, &options)?);
            resources.insert(resource.name.clone(), resource);
        }
        let rpcs = cascade::Rpcs::of_all(&pool, &resources);
        let catalog = Self {
            pool,
            resources,
            rpcs,
        };
        for resource in catalog.resources() {
            let checked = catalog.check_nouns(resource);
            let checked = checked.and_then(|()| cascade::check(resource, catalog.rpcs(resource)));
            checked.map_err(|problem| CatalogError::Resource {
                resource: resource.message.full_name().to_owned(),
                problem,
            })?;
        }
        Ok(catalog)
    }

    /// That each noun that a type names is one.
    fn check_nouns(&self, resource: &ResourceType) -> Result<(), String> {
        let fields = resource.fields.iter();
        let named = fields.filter_map(|field| Some((&*field.name, field.references.as_ref()?)));
        let after = resource.deleted_after.iter();
        let after = after.map(|noun| ("deleted_after", noun));
        let dependents = resource.dependents.iter();
        let dependents = dependents.map(|dependents| ("dependents", &dependents.noun));
        for (who, noun) in named.chain(after).chain(dependents) {
            if self.resource(noun).is_none() {
                return Err(format!("{who} names {noun}, which is no resource"));
            }
        }
        let stopped = resource.fields.iter().filter_map(|field| {
            let stops = field.on_detach == OnDelete::Stop;
            field.references.as_ref().filter(|_| stops)
        });
        let dependents = resource.dependents.iter();
        let dependents = dependents.filter(|dependents| dependents.action == OnDelete::Stop);
        for noun in stopped.chain(dependents.map(|dependents| &dependents.noun)) {
            let known = self.resource(noun).and_then(|noun| self.stopping(noun));
            if known.is_none() {
                return Err(format!("{noun} is to be stopped, and no rpc `stops` it"));
            }
        }
        Ok(())
    }

    /// The type with that noun.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&Arc<ResourceType>> {
        self.resources.get(name)
    }

    /// Every type, by noun.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.resources.values()
    }

    /// Who refers to resources of that noun: the types and the fields.
    pub fn referrers<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<ResourceType>, &'a Field)> {
        self.resources().flat_map(move |resource| {
            let fields = resource.fields.iter();
            fields
                .filter(move |field| field.references.as_deref() == Some(name))
                .map(move |field| (resource, field))
        })
    }

    /// The descriptors.
    #[must_use]
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

/// The short names of an enum's values.
#[must_use]
pub fn enum_names(descriptor: &EnumDescriptor) -> EnumNames {
    EnumNames::of(descriptor)
}

/// The value of one of our options, if it is set: `cairn.meta.v1alpha1.field` and the like.
#[must_use]
pub fn option(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let extension = options
        .descriptor()
        .parent_pool()
        .get_extension_by_name(name)?;
    if !options.has_extension(&extension) {
        return None;
    }
    match options.get_extension(&extension).into_owned() {
        Value::Message(message) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::v1alpha1::Zone;

    #[test]
    fn the_built_in_resources_keep_the_convention() {
        let catalog = Catalog::built_in();
        let zone = catalog.resource(Zone::NOUN).unwrap();
        assert_eq!(
            (zone.table.as_str(), zone.plural.as_str()),
            ("zone", "zones")
        );
        assert_eq!(
            zone.field("lastOperationTime").unwrap().kind,
            FieldKind::Time
        );
        let referrers: Vec<_> = catalog
            .referrers("zone")
            .map(|(r, f)| format!("{}.{}", r.name, f.name))
            .collect();
        for referrer in ["cluster.zone_uuid", "host.zone_uuid"] {
            assert!(
                referrers.iter().any(|name| name == referrer),
                "{referrer} in {referrers:?}"
            );
        }
        for resource in catalog.resources() {
            for column in &resource.columns {
                assert!(
                    resource.field(column).is_some(),
                    "{}: no field {column}",
                    resource.name
                );
            }
        }
    }
}
