//! A resource's fields: which column holds each, and how its values read and compare.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::{CatalogError, OnDelete, ResourceType, cascade, option};

/// A field of a resource, which is a column of its table.
#[derive(Debug, Clone)]
pub struct Field {
    /// In snake_case, as in the proto; the column has the same name.
    pub name: String,
    /// In lowerCamelCase, as in JSON.
    pub json_name: String,
    /// The number on the wire.
    pub number: u32,
    /// What it holds.
    pub kind: FieldKind,
    /// It may have no value; then its column is NULL.
    pub nullable: bool,
    /// It holds the uuid of a resource of this noun.
    pub references: Option<String>,
    /// What becomes of the resource when a cascade deletes the one that the field names.
    pub on_delete: OnDelete,
    /// What becomes of the whole, which the field names, before the resource is detached from it:
    /// nothing ([`OnDelete::Refuse`]), or it is stopped.
    pub on_detach: OnDelete,
    /// What becomes of the resource in cascades that delete nothing, by their words.
    pub on: Vec<(String, OnDelete)>,
    /// Never returned, queried, logged or stored in clear.
    pub secret: bool,
}

/// What a field holds, and how the database holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// `string`: TEXT.
    Text,
    /// An enum: TEXT, its short name (`Enabled` for `RESOURCE_STATE_ENABLED`).
    Enum(EnumNames),
    /// `int32`, `int64` and their kin: BIGINT.
    Signed(Width),
    /// `uint32`, `uint64`: BIGINT; what does not fit is refused when it is written.
    Unsigned(Width),
    /// `bool`: BIGINT, 0 or 1.
    Bool,
    /// `double`: DOUBLE PRECISION.
    Double,
    /// `google.protobuf.Timestamp`: BIGINT, microseconds since 1970 in UTC.
    Time,
    /// `bytes`: BYTEA.
    Bytes,
}

/// How many bits an integer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 32
    W32,
    /// 64
    W64,
}

/// The short names of an enum's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumNames(Vec<(i32, String)>);

impl EnumNames {
    /// The short names of an enum: its values' names without the enum's own.
    #[must_use]
    pub fn of(descriptor: &EnumDescriptor) -> Self {
        let prefix = format!("{}_", screaming(descriptor.name()));
        let values = descriptor.values().map(|value| {
            let name = value.name();
            (
                value.number(),
                camel(name.strip_prefix(&prefix).unwrap_or(name)),
            )
        });
        Self(values.collect())
    }

    /// The short name of a number.
    #[must_use]
    pub fn name(&self, number: i32) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, name)| name.as_str())
    }

    /// The number of a short name, in any case.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i32> {
        self.0
            .iter()
            .find(|(_, n)| n.eq_ignore_ascii_case(name))
            .map(|(number, _)| *number)
    }

    /// The short names that a value may have.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(number, _)| *number != 0)
            .map(|(_, name)| name.as_str())
    }
}

pub(super) fn resource(
    message: &MessageDescriptor,
    options: &DynamicMessage,
) -> Result<ResourceType, CatalogError> {
    let problem = |problem: String| CatalogError::Resource {
        resource: message.full_name().to_owned(),
        problem,
    };
    let text = |name| {
        let value = options.get_field_by_name(name);
        value
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let name = text("name");
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(problem(format!("its name `{name}` is not kebab-case")));
    }
    let texts = |name| -> Vec<String> {
        let value = options.get_field_by_name(name);
        let list = value.as_ref().and_then(|v| v.as_list()).unwrap_or_default();
        list.iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut fields = Vec::new();
    for descriptor in message.fields() {
        fields.push(field(&descriptor).map_err(&problem)?);
    }
    fields.sort_by_key(|field| field.number);
    const COMMON: [&str; 6] = [
        "uuid",
        "name",
        "description",
        "account_uuid",
        "create_time",
        "last_operation_time",
    ];
    for (number, common) in (1..).zip(COMMON) {
        if !fields
            .iter()
            .any(|field| field.name == common && field.number == number)
        {
            return Err(problem(format!("it has no field {common} = {number}")));
        }
    }
    Ok(ResourceType {
        table: name.replace('-', "_"),
        plural: text("plural"),
        columns: texts("columns"),
        deleted_after: texts("deleted_after"),
        dependents: cascade::dependents(options).map_err(&problem)?,
        fields,
        message: message.clone(),
        name,
    })
}

fn field(descriptor: &FieldDescriptor) -> Result<Field, String> {
    let unsupported = || {
        format!(
            "field {} is of a kind that no column holds",
            descriptor.name()
        )
    };
    if descriptor.is_list() || descriptor.is_map() {
        return Err(unsupported());
    }
    let kind = match descriptor.kind() {
        Kind::String => FieldKind::Text,
        Kind::Bool => FieldKind::Bool,
        Kind::Double | Kind::Float => FieldKind::Double,
        Kind::Bytes => FieldKind::Bytes,
        Kind::Int32 => FieldKind::Signed(Width::W32),
        Kind::Int64 => FieldKind::Signed(Width::W64),
        Kind::Uint32 => FieldKind::Unsigned(Width::W32),
        Kind::Uint64 => FieldKind::Unsigned(Width::W64),
        Kind::Enum(names) => FieldKind::Enum(EnumNames::of(&names)),
        Kind::Message(m) if m.full_name() == "google.protobuf.Timestamp" => FieldKind::Time,
        _ => return Err(unsupported()),
    };
    let rules = option(&descriptor.options(), "cairn.meta.v1alpha1.field");
    let rule = |name: &str| {
        rules
            .as_ref()
            .and_then(|r| r.get_field_by_name(name).map(|v| v.into_owned()))
    };
    let references = rule("references").and_then(|v| v.as_str().map(str::to_owned));
    let references = references.filter(|target| !target.is_empty());
    let nullable = descriptor.supports_presence();
    let (on_delete, on_detach, on) = match &rules {
        None => (OnDelete::Refuse, OnDelete::Refuse, Vec::new()),
        Some(rules) => cascade::reactions(rules, references.is_some(), nullable)
            .map_err(|problem| format!("field {} {problem}", descriptor.name()))?,
    };
    Ok(Field {
        name: descriptor.name().to_owned(),
        json_name: descriptor.json_name().to_owned(),
        number: descriptor.number(),
        kind,
        nullable,
        references,
        on_delete,
        on_detach,
        on,
        secret: rule("secret").and_then(|v| v.as_bool()).unwrap_or(false),
    })
}

fn screaming(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}

fn camel(screaming: &str) -> String {
    let words = screaming.split('_').filter(|word| !word.is_empty());
    words
        .map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase())
        .collect()
}
