//! A field of a request as a flag or an argument: its name, its help, and how its text
//! becomes a value.

use std::{collections::HashMap, fs};

use cairn_proto::meta::{EnumNames, option};
use clap::{
    Arg, ArgAction, ArgMatches,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _, ValueParser},
};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, Value};

use crate::{action, comment, names, size};

/// Flags of the command line itself. A field of that name gets `field-` before it.
const OWN_FLAGS: [&str; 8] = [
    "credential",
    "endpoint",
    "file",
    "help",
    "idempotency-key",
    "json",
    "no-wait",
    "version",
];
/// Flags that queries have besides.
const QUERY_FLAGS: [&str; 7] = [
    "count",
    "desc",
    "fields",
    "limit",
    "sort",
    "start",
    "with-count",
];

/// The flag of a field, without dashes: `zone-uuid`.
pub(crate) fn name(field: &FieldDescriptor) -> String {
    let name = field.name().replace('_', "-");
    if is_taken(&name, field) {
        format!("field-{name}")
    } else {
        name
    }
}

fn is_taken(name: &str, field: &FieldDescriptor) -> bool {
    OWN_FLAGS.contains(&name)
        || (QUERY_FLAGS.contains(&name) && action::query_field(field.parent_message()).is_some())
}

/// What people type in place of `zone-uuid` and `l3-network-uuids`: `zone`, `l3-network` and
/// `l3-networks`, unless another flag is called so.
fn aliases(field: &FieldDescriptor) -> Vec<String> {
    let message = field.parent_message();
    let others: Vec<_> = message.fields().filter(|other| other != field).collect();
    let is_free = |alias: &String| {
        !is_taken(alias, field)
            && !others
                .iter()
                .any(|other| name(other) == *alias || short_names(other).contains(alias))
    };
    short_names(field).into_iter().filter(is_free).collect()
}

fn short_names(field: &FieldDescriptor) -> Vec<String> {
    if references(field).is_none() {
        return Vec::new();
    }
    let name = field.name().replace('_', "-");
    match (name.strip_suffix("-uuid"), name.strip_suffix("-uuids")) {
        (Some(one), _) => vec![one.to_owned()],
        (_, Some(one)) => vec![one.to_owned(), format!("{one}s")],
        _ => Vec::new(),
    }
}

/// The noun of the resource whose uuid the field holds.
pub(crate) fn references(field: &FieldDescriptor) -> Option<String> {
    let noun = rule(field, "references")?.as_str()?.to_owned();
    Some(noun).filter(|noun| !noun.is_empty())
}

/// Whether the field is an argument and not a flag: it names what the call is about.
pub(crate) fn is_positional(field: &FieldDescriptor) -> bool {
    rule(field, "routing_key") == Some(Value::Bool(true)) && !is_assigned(field)
}

/// Whether the field is the uuid of what a call makes, which the server gives unless the caller
/// does.
pub(crate) fn is_assigned(field: &FieldDescriptor) -> bool {
    rule(field, "assigned") == Some(Value::Bool(true))
}

/// A wrong field, as the command line names it.
pub(crate) fn label(field: &FieldDescriptor) -> String {
    if is_positional(field) {
        name(field).to_uppercase()
    } else {
        format!("--{}", name(field))
    }
}

fn rule(field: &FieldDescriptor, name: &str) -> Option<Value> {
    let rules = option(&field.options(), "cairn.meta.v1alpha1.field")?;
    Some(rules.get_field_by_name(name)?.into_owned())
}

/// The field on the command line.
pub(crate) fn arg(field: &FieldDescriptor) -> Arg {
    let arg = Arg::new(id(field))
        .help(comment::of_field(field))
        .value_name(placeholder(field))
        .value_parser(parser(field));
    if is_positional(field) {
        return arg.required(true);
    }
    let arg = arg.long(name(field)).visible_aliases(aliases(field));
    let arg = if field.is_list() || field.is_map() {
        arg.action(ArgAction::Append)
    } else {
        arg
    };
    match field.kind() {
        Kind::Bool if !field.is_list() => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Kind::Enum(_) => arg.ignore_case(true),
        Kind::String | Kind::Bytes | Kind::Bool | Kind::Message(_) => arg,
        _ => arg.allow_negative_numbers(true),
    }
}

/// Puts what was given for a field into the request.
pub(crate) fn fill(field: &FieldDescriptor, matches: &ArgMatches, request: &mut DynamicMessage) {
    let Some(values) = matches.get_many::<Value>(&id(field)) else {
        return;
    };
    let mut values = values.cloned();
    let value = if field.is_map() {
        let mut entries = HashMap::new();
        for each in values {
            if let Value::Map(one) = each {
                entries.extend(one);
            }
        }
        Some(Value::Map(entries))
    } else if field.is_list() {
        Some(Value::List(values.collect()))
    } else {
        values.next()
    };
    if let Some(value) = value {
        request.set_field(field, value);
    }
}

/// Apart from the ids of the command line's own arguments.
pub(crate) fn id(field: &FieldDescriptor) -> String {
    format!("field:{}", field.name())
}

fn placeholder(field: &FieldDescriptor) -> String {
    if let Some(noun) = references(field) {
        return if names::are_taken(&noun) {
            "NAME|UUID".to_owned()
        } else {
            "UUID".to_owned()
        };
    }
    if is_positional(field) {
        return name(field).to_uppercase();
    }
    if field.is_map() {
        return "KEY=VALUE".to_owned();
    }
    match field.kind() {
        Kind::String => "TEXT".to_owned(),
        Kind::Bool => "BOOL".to_owned(),
        Kind::Bytes => "BASE64".to_owned(),
        Kind::Enum(_) => name(field).to_uppercase(),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "TIME".to_owned(),
            "google.protobuf.Duration" => "SECONDS".to_owned(),
            _ => "JSON".to_owned(),
        },
        _ if size::is_size(field.name()) => "SIZE".to_owned(),
        _ => "NUMBER".to_owned(),
    }
}

fn parser(field: &FieldDescriptor) -> ValueParser {
    if let (Kind::Enum(names), false) = (field.kind(), field.is_map()) {
        return enum_parser(&names);
    }
    let field = field.clone();
    ValueParser::from(move |text: &str| {
        if field.is_map() {
            entry(&field, text)
        } else {
            parse(&field, text)
        }
    })
}

fn enum_parser(descriptor: &EnumDescriptor) -> ValueParser {
    let names = EnumNames::of(descriptor);
    let described = names.names().map(|name| {
        let number = names.number(name).unwrap_or_default();
        let value = descriptor.get_value(number);
        let help = value.map(|v| comment::of_value(&v)).unwrap_or_default();
        PossibleValue::new(name.to_owned()).help(help)
    });
    let parser = PossibleValuesParser::new(described.collect::<Vec<_>>());
    ValueParser::from(
        parser.map(move |name| Value::EnumNumber(names.number(&name).unwrap_or_default())),
    )
}

fn entry(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    let Kind::Message(entry) = field.kind() else {
        return Err("not a map".to_owned());
    };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    let key = parse(&entry.map_entry_key_field(), key)?;
    let key = key
        .into_map_key()
        .ok_or("a key is a text or a number".to_owned())?;
    let value = parse(&entry.map_entry_value_field(), value)?;
    Ok(Value::Map(HashMap::from([(key, value)])))
}

fn parse(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    let whole = || whole(text, size::is_size(field.name()));
    let range = |_| format!("`{text}` is out of range");
    Ok(match field.kind() {
        Kind::String => Value::String(string(text)?),
        Kind::Bool => Value::Bool(text.parse().map_err(|_| "true or false".to_owned())?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Value::I32(whole()?.try_into().map_err(range)?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64(whole()?.try_into().map_err(range)?)
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32(whole()?.try_into().map_err(range)?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(whole()?.try_into().map_err(range)?),
        Kind::Double => Value::F64(real(text)?),
        // A literal within a float's range; what it loses, the field cannot hold.
        Kind::Float => Value::F32(text.parse().map_err(|_| no_number(text))?),
        Kind::Bytes => return bytes(field, text),
        Kind::Enum(names) => {
            let names = EnumNames::of(&names);
            let number = names.number(text).ok_or_else(|| {
                let all: Vec<_> = names.names().collect();
                format!("`{text}` is none of {}", all.join(", "))
            })?;
            Value::EnumNumber(number)
        }
        Kind::Message(message) => {
            let text = string(text)?;
            // What is not JSON may be a time or a duration, which are strings in JSON.
            let json = serde_json::from_str(&text)
                .unwrap_or_else(|_| serde_json::Value::String(text.clone()));
            let full_name = message.full_name().to_owned();
            let value = DynamicMessage::deserialize(message, json);
            Value::Message(value.map_err(|cause| match full_name.as_str() {
                "google.protobuf.Timestamp" => {
                    format!("`{text}` is not a time; a time looks like 2026-02-03T04:05:06Z")
                }
                "google.protobuf.Duration" => {
                    format!("`{text}` is not a duration; a duration looks like 90s")
                }
                _ => format!("it must be the JSON of {full_name}: {cause}"),
            })?)
        }
    })
}

fn whole(text: &str, sized: bool) -> Result<i128, String> {
    if sized && !text.starts_with('-') {
        return size::parse(text).map(i128::from);
    }
    text.parse().map_err(|_| no_number(text))
}

fn real(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| no_number(text))
}

fn no_number(text: &str) -> String {
    format!("`{text}` is not a number")
}

/// The text, or the file that `@FILE` names; `@@` is a text that begins with `@`.
fn string(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some(path) => {
            fs::read_to_string(path).map_err(|cause| format!("cannot read {path}: {cause}"))
        }
    }
}

/// The bytes of the file that `@FILE` names, or base64.
fn bytes(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    if let Some(path) = text.strip_prefix('@') {
        let content = fs::read(path).map_err(|cause| format!("cannot read {path}: {cause}"))?;
        return Ok(Value::Bytes(content.into()));
    }
    let problem = || format!("`{text}` is not base64; @FILE takes the bytes of a file");
    // The JSON of a message knows base64 in all its forms.
    let json = serde_json::json!({ field.json_name(): text });
    let json = if field.is_list() {
        serde_json::json!({ field.json_name(): [text] })
    } else {
        json
    };
    let message = DynamicMessage::deserialize(field.parent_message().clone(), json);
    let value = message.map_err(|_| problem())?;
    match value.get_field(field).into_owned() {
        Value::List(mut list) => list.pop().ok_or_else(problem),
        one => Ok(one),
    }
}

#[cfg(test)]
mod tests;
