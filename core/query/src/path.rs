//! Paths along references, from the resource that is looked for to a field.

use std::sync::Arc;

use cairn_proto::meta::{Catalog, Field, ResourceType};
use cairn_store::{Store, Tx};

use crate::{MAX_DEPTH, suggest::suggest};

/// What tells which resources there are, and which of them have a table.
pub(crate) trait Schema {
    fn catalog(&self) -> &Catalog;
    fn has_table(&self, noun: &str) -> bool;
}

impl Schema for Store {
    fn catalog(&self) -> &Catalog {
        Self::catalog(self)
    }

    fn has_table(&self, noun: &str) -> bool {
        Self::has_table(self, noun)
    }
}

impl Schema for Tx {
    fn catalog(&self) -> &Catalog {
        Self::catalog(self)
    }

    fn has_table(&self, noun: &str) -> bool {
        Self::has_table(self, noun)
    }
}

/// A path that leads somewhere.
pub(crate) struct Path<'s> {
    /// Each goes from a table to the next one.
    pub(crate) steps: Vec<Step<'s>>,
    /// The resource at the end.
    pub(crate) resource: &'s ResourceType,
    /// The field of it that the condition is about.
    pub(crate) field: &'s Field,
}

/// From rows here to the rows of `table` where `there` is what `here` is here.
#[derive(Clone, Copy)]
pub(crate) struct Step<'s> {
    pub(crate) table: &'s str,
    pub(crate) there: &'s str,
    pub(crate) here: &'s str,
}

impl<'s> Path<'s> {
    /// The inner error says what is wrong with the path and what would be right.
    pub(crate) fn resolve(
        store: &'s impl Schema,
        resource: &'s ResourceType,
        text: &str,
    ) -> Result<Self, String> {
        let mut parts: Vec<_> = text.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        if parts.len() > MAX_DEPTH {
            let depth = parts.len();
            return Err(format!(
                "goes along {depth} references; at most {MAX_DEPTH}"
            ));
        }
        let mut here = resource;
        let mut steps = Vec::new();
        for part in parts {
            let link = follow(store, here, part)?;
            steps.push(link.step);
            here = link.target;
        }
        let field = match here.field(last) {
            Some(field) => readable(field)?,
            None => return Err(no_field(store, here, last)),
        };
        Ok(Self {
            steps,
            resource: here,
            field,
        })
    }
}

/// The field, unless it is one that nobody reads.
pub(crate) fn readable(field: &Field) -> Result<&Field, String> {
    if field.secret {
        return Err(format!(
            "`{}` is secret: it is never returned or compared",
            field.name
        ));
    }
    Ok(field)
}

/// What the fields are called that a query may name.
pub(crate) fn readable_names(resource: &ResourceType) -> impl Iterator<Item = &str> {
    let fields = resource.fields.iter().filter(|field| !field.secret);
    fields.map(|field| field.name.as_str())
}

struct Link<'s> {
    /// In snake_case.
    name: String,
    step: Step<'s>,
    target: &'s ResourceType,
}

fn follow<'s>(
    store: &'s impl Schema,
    here: &'s ResourceType,
    part: &str,
) -> Result<Link<'s>, String> {
    let mut links = links(store, here);
    if let Some(found) = links.iter().position(|link| is(&link.name, part)) {
        return Ok(links.swap_remove(found));
    }
    let prefix = format!("{part}_via_");
    let choices = links.iter().filter(|link| {
        link.name.starts_with(&prefix) || camel(&link.name).starts_with(&camel(&prefix))
    });
    let choices: Vec<_> = choices.map(|link| format!("`{}`", link.name)).collect();
    if !choices.is_empty() {
        let choices = choices.join(" or ");
        return Err(format!(
            "`{part}` can be reached in several ways: write {choices}"
        ));
    }
    if let Some(field) = here.field(part) {
        let name = &field.name;
        return Err(format!("field `{name}` of {} leads no further", here.name));
    }
    let suggestion = match links.as_slice() {
        [] => format!("; nothing leads on from {}", here.name),
        _ => suggest(part, links.iter().map(|link| link.name.as_str())),
    };
    Err(format!(
        "{} has no reference `{part}`{suggestion}",
        here.name
    ))
}

fn no_field(store: &impl Schema, here: &ResourceType, part: &str) -> String {
    if links(store, here).iter().any(|link| is(&link.name, part)) {
        return format!("`{part}` is a reference: go on to a field, as in `{part}.name`");
    }
    let suggestion = suggest(part, readable_names(here));
    format!("{} has no field `{part}`{suggestion}", here.name)
}

/// Every way on from a resource: its own references first, then those that refer to it.
fn links<'s>(store: &'s impl Schema, here: &'s ResourceType) -> Vec<Link<'s>> {
    let mut links = Vec::new();
    for field in &here.fields {
        let target = field.references.as_deref();
        let target = target.and_then(|target| store.catalog().resource(target));
        if let Some(target) = target.filter(|target| store.has_table(&target.name)) {
            links.push(Link {
                name: stem(field).to_owned(),
                step: Step {
                    table: &target.table,
                    there: "uuid",
                    here: &field.name,
                },
                target,
            });
        }
    }
    let referrers = store.catalog().referrers(&here.name);
    let referrers: Vec<_> = referrers
        .filter(|(from, _)| store.has_table(&from.name))
        .collect();
    for (from, field) in &referrers {
        let plural = from.plural.replace('-', "_");
        let times = referrers
            .iter()
            .filter(|(other, _)| Arc::ptr_eq(other, from))
            .count();
        let via = format!("{plural}_via_{}", stem(field));
        let names = if times == 1 {
            vec![plural, via]
        } else {
            vec![via]
        };
        links.extend(names.into_iter().map(|name| Link {
            name,
            step: Step {
                table: &from.table,
                there: &field.name,
                here: "uuid",
            },
            target: from,
        }));
    }
    links
}

/// `cluster` for `cluster_uuid`.
fn stem(field: &Field) -> &str {
    field.name.strip_suffix("_uuid").unwrap_or(&field.name)
}

fn is(name: &str, part: &str) -> bool {
    name == part || camel(name) == part
}

/// As JSON names fields.
fn camel(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match c {
            '_' => upper = true,
            _ if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            _ => out.push(c),
        }
    }
    out
}
