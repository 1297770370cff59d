//! Names in place of uuids: in flags, arguments and conditions that refer to a resource.
//!
//! A text that is a uuid is one, and is not looked up. Everything else is a name, which must be
//! that of one resource; `name:TEXT` is a name whatever it looks like. The lookups of one call are
//! made at once, and its problems are told together.

use std::collections::BTreeMap;

use cairn_proto::{
    fault::Fault,
    meta::{Catalog, Field, ResourceType},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_types::{ErrorCode, Uuid};
use futures::future::join_all;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};

use crate::{
    action::{Action, Actions},
    connection::Connection,
    error::CliError,
    flag,
    grammar::{self, Invocation},
    query, table,
};

/// What the help of a call says of them.
pub(crate) const HELP: &str = "\
Where NAME|UUID is asked for, the name of the one resource that has it does too.
name:TEXT is always a name, also one that looks like a uuid.";

/// How many of those with the same name are told.
const TOLD: u32 = 10;
/// Among how many the nearest name is looked for.
const LOOKED_THROUGH: u32 = 1_000;
const SUGGESTED: usize = 3;
/// So few are all told, however unlike they are.
const FEW: usize = 8;

/// Whether resources of that noun go by their names. Operations are named after what they do.
pub(crate) fn are_taken(noun: &str) -> bool {
    noun != "operation"
}

/// Puts uuids where the call has names.
///
/// # Errors
/// If a name is not that of exactly one resource, or cannot be looked up.
pub(crate) async fn resolve(
    connection: &Connection,
    actions: &Actions,
    invocation: &mut Invocation<'_>,
) -> Result<(), CliError> {
    let is_changed = write_out(&actions.catalog, invocation);
    let mut places = places_in_request(invocation);
    places.extend(places_in_conditions(&actions.catalog, invocation));
    if places.is_empty() && !is_changed {
        return Ok(());
    }
    let mut distinct: BTreeMap<_, _> = places
        .iter()
        .map(|place| ((place.noun.clone(), place.name.clone()), None))
        .collect();
    let lookups = distinct.keys().map(|(noun, name)| {
        let lookup = Lookup {
            connection,
            actions,
            noun,
            name,
        };
        async move { lookup.run().await }
    });
    let found = join_all(lookups).await;
    for (slot, found) in distinct.values_mut().zip(found) {
        *slot = Some(found?);
    }
    let mut problems = Vec::new();
    for place in places {
        let key = (place.noun.clone(), place.name.clone());
        match distinct.get(&key).and_then(Option::as_ref) {
            Some(Ok(uuid)) => place.put(uuid, invocation),
            Some(Err(problem)) => problems.push((place.label(), problem)),
            None => {}
        }
    }
    if problems.is_empty() {
        if invocation.action.query_field().is_some() {
            query::fill(
                invocation.action,
                &invocation.query,
                &mut invocation.request,
            )
            .map_err(CliError::Answer)?;
        }
        return Ok(());
    }
    let none = problems.iter().all(|(_, problem)| problem.is_none);
    let fields = problems.into_iter();
    let mut fault = Fault::fields(
        fields
            .map(|(label, problem)| (label, problem.text.clone()))
            .collect(),
    );
    if none {
        fault.code = ErrorCode::NotFound;
    }
    Err(CliError::Called {
        fault: Box::new(fault),
        request: Some(invocation.asked()),
        operation: None,
    })
}

/// Writes out the shorthands of a query, and says whether there were any.
fn write_out(catalog: &Catalog, invocation: &mut Invocation<'_>) -> bool {
    let noun = &invocation.action.noun;
    let query = &mut invocation.query;
    let conditions = query.conditions.iter_mut().map(|c| &mut c.field);
    let fields = conditions.chain(&mut query.fields).chain(&mut query.sort);
    let mut is_changed = false;
    for field in fields {
        if let Some(full) = in_full(catalog, noun, field) {
            *field = full;
            is_changed = true;
        }
    }
    is_changed
}

/// The name that a text is, unless it is a uuid.
fn name_in(text: &str) -> Option<&str> {
    match text.strip_prefix("name:") {
        Some(name) => Some(name),
        None => (!text.is_empty() && !is_uuid(text)).then_some(text),
    }
}

/// In the canonical form or in capitals, of which the server says what is wrong with it.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Where a call has a name.
struct Place {
    at: At,
    noun: String,
    name: String,
}

enum At {
    /// A field of the request; which one of several.
    Field(FieldDescriptor, Option<usize>),
    /// A value of a condition.
    Condition { index: usize, value: usize },
}

impl Place {
    /// As a fault names it.
    fn label(&self) -> String {
        match &self.at {
            At::Field(field, _) => field.name().to_owned(),
            At::Condition { index, .. } => format!("conditions[{index}].values"),
        }
    }

    fn put(self, uuid: &str, invocation: &mut Invocation<'_>) {
        match self.at {
            At::Field(field, None) => {
                let value = Value::String(uuid.to_owned());
                invocation.request.set_field(&field, value);
            }
            At::Field(field, Some(index)) => {
                if let Value::List(list) = invocation.request.get_field_mut(&field)
                    && let Some(value) = list.get_mut(index)
                {
                    *value = Value::String(uuid.to_owned());
                }
            }
            At::Condition { index, value } => {
                let condition = invocation.query.conditions.get_mut(index);
                if let Some(value) = condition.and_then(|c| c.values.get_mut(value)) {
                    uuid.clone_into(value);
                }
            }
        }
    }
}

fn places_in_request(invocation: &Invocation<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for field in grammar::request_fields(invocation.action) {
        let Some(noun) = flag::references(&field).filter(|noun| are_taken(noun)) else {
            continue;
        };
        let mut add = |index, value: &Value| {
            if let Some(name) = value.as_str().and_then(name_in) {
                places.push(Place {
                    at: At::Field(field.clone(), index),
                    noun: noun.clone(),
                    name: name.to_owned(),
                });
            }
        };
        match invocation.request.get_field(&field).as_ref() {
            Value::List(list) => {
                for (index, value) in list.iter().enumerate() {
                    add(Some(index), value);
                }
            }
            one => add(None, one),
        }
    }
    places
}

fn places_in_conditions(catalog: &Catalog, invocation: &Invocation<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, condition) in invocation.query.conditions.iter().enumerate() {
        let compares = [Operator::Eq, Operator::Ne, Operator::In, Operator::NotIn];
        if !compares.contains(&condition.operator()) {
            continue;
        }
        let noun = referenced(catalog, &invocation.action.noun, condition);
        let Some(noun) = noun.filter(|noun| are_taken(noun)) else {
            continue;
        };
        for (value, text) in condition.values.iter().enumerate() {
            if let Some(name) = name_in(text) {
                places.push(Place {
                    at: At::Condition { index, value },
                    noun: noun.clone(),
                    name: name.to_owned(),
                });
            }
        }
    }
    places
}

/// The noun that the field at the end of a condition's path refers to.
fn referenced(catalog: &Catalog, noun: &str, condition: &Condition) -> Option<String> {
    let (resource, last) = end_of(catalog, noun, &condition.field)?;
    resource.field(last)?.references.clone()
}

/// `zoneUuid` for `zone`, at the end of a path too; none if the path is no such shorthand.
fn in_full(catalog: &Catalog, noun: &str, path: &str) -> Option<String> {
    let (resource, last) = end_of(catalog, noun, path)?;
    let full = reference(resource, last).filter(|_| resource.field(last).is_none())?;
    let before = path.strip_suffix(last)?;
    Some(format!("{before}{}", full.json_name))
}

/// The resource at the end of a path, and its field there.
fn end_of<'a, 'p>(
    catalog: &'a Catalog,
    noun: &str,
    path: &'p str,
) -> Option<(&'a ResourceType, &'p str)> {
    let mut resource = &**catalog.resource(noun)?;
    let mut path = path.split('.').peekable();
    while let Some(segment) = path.next() {
        if path.peek().is_none() {
            return Some((resource, segment));
        }
        let to = reference(resource, segment)
            .and_then(|field| catalog.resource(field.references.as_deref()?));
        let from = || {
            let mut referrers = catalog.referrers(&resource.name);
            let called = |other: &ResourceType| plain(&other.plural) == plain(segment);
            Some(referrers.find(|(other, _)| called(other))?.0)
        };
        resource = to.or_else(from)?;
    }
    None
}

/// The field that refers to what a path calls by the field's name without `Uuid`.
fn reference<'a>(resource: &'a ResourceType, segment: &str) -> Option<&'a Field> {
    let camel = resource.field(&format!("{segment}Uuid"));
    let field = camel.or_else(|| resource.field(&format!("{segment}_uuid")));
    field.filter(|field| field.references.is_some())
}

/// `vmInstances`, `vm_instances` and `vm-instances` are the same.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Why a name is not that of one resource.
struct Problem {
    text: String,
    /// There is none; else there are several.
    is_none: bool,
}

struct Lookup<'a> {
    connection: &'a Connection,
    actions: &'a Actions,
    noun: &'a str,
    name: &'a str,
}

impl Lookup<'_> {
    async fn run(self) -> Result<Result<String, Problem>, CliError> {
        let (noun, name) = (self.noun, self.name);
        let action = self.actions.find(noun, "query");
        let action = action.ok_or_else(|| {
            CliError::Usage(format!("error: {noun} resources go by their uuids only\n"))
        })?;
        let named = Query {
            conditions: vec![Condition {
                field: "name".to_owned(),
                operator: Operator::Eq.into(),
                values: vec![name.to_owned()],
            }],
            limit: Some(TOLD + 1),
            ..Query::default()
        };
        let found = query::find(self.connection, action, &named).await?.rows;
        match found.as_slice() {
            [] => Ok(Err(self.none(action).await?)),
            [one] => Ok(Ok(text_of(one, "uuid"))),
            several => Ok(Err(self.several(several))),
        }
    }

    async fn none(&self, action: &Action) -> Result<Problem, CliError> {
        let all = Query {
            fields: vec!["name".to_owned()],
            limit: Some(LOOKED_THROUGH),
            ..Query::default()
        };
        let all = query::find(self.connection, action, &all).await?.rows;
        let names: Vec<_> = all.iter().map(|row| text_of(row, "name")).collect();
        let (noun, name) = (self.noun, table::printable(self.name));
        let text = format!("there is no {noun} named `{name}`");
        Ok(Problem {
            text: text + &suggestion(self.name, names, &self.plural()),
            is_none: true,
        })
    }

    fn several(&self, found: &[DynamicMessage]) -> Problem {
        let told = &found[..found.len().min(TOLD as usize)];
        let count = match told.len() < found.len() {
            true => format!("more than {}", told.len()),
            false => told.len().to_string(),
        };
        let (plural, name) = (self.plural(), table::printable(self.name));
        let mut text = format!("{count} {plural} are named `{name}`; give the uuid of one");
        let mut columns = vec!["uuid".to_owned(), "createTime".to_owned()];
        if let Some(resource) = self.actions.catalog.resource(self.noun) {
            let own = resource.columns.iter().filter(|own| *own != "createTime");
            columns.extend(own.cloned());
        }
        let columns = table::columns(&found[0].descriptor(), &self.actions.catalog, &columns);
        for line in table::rows(told, &columns).lines() {
            text.push_str("\n    ");
            text.push_str(line);
        }
        Problem {
            text,
            is_none: false,
        }
    }

    fn plural(&self) -> String {
        let resource = self.actions.catalog.resource(self.noun);
        resource.map_or_else(|| format!("{}s", self.noun), |r| r.plural.clone())
    }
}

/// The end of a sentence about a name that nothing has.
fn suggestion(name: &str, mut names: Vec<String>, plural: &str) -> String {
    names.sort();
    names.dedup();
    if names.is_empty() {
        return format!("; there are no {plural}");
    }
    let wanted = name.to_lowercase();
    let distances = names.iter().map(|other| {
        let distance = strsim::damerau_levenshtein(&wanted, &other.to_lowercase());
        (distance, other)
    });
    let near: Vec<_> = distances
        .filter(|(distance, _)| *distance <= wanted.chars().count().div_ceil(3).min(3))
        .collect();
    let nearest = near.iter().map(|(distance, _)| *distance).min();
    let near = near.iter().filter(|(d, _)| Some(*d) == nearest);
    let quoted = |name: &String| format!("`{}`", table::printable(name));
    let near: Vec<_> = near.take(SUGGESTED).map(|(_, n)| quoted(n)).collect();
    if !near.is_empty() {
        return format!("; did you mean {}?", near.join(" or "));
    }
    if names.len() > FEW {
        return String::new();
    }
    let all: Vec<_> = names.iter().map(quoted).collect();
    format!("; there are {}", all.join(", "))
}

/// What a row has in a field of text.
pub(crate) fn text_of(row: &DynamicMessage, field: &str) -> String {
    let value = row.get_field_by_name(field);
    value
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
