//! Messages as people read them: rows under headings, or one line for each field.

use cairn_proto::meta::{Catalog, EnumNames, ResourceType, option};
use comfy_table::{LineStyle, Row, Table, TableStyle};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

use crate::{flag, labels::Labels, names, size};

const NOTHING: &str = "-";
/// Longer texts are cut in rows; the details of one resource have them whole.
const LONGEST_CELL: usize = 100;

/// A table of messages of one type, a row each.
pub(crate) fn rows(messages: &[DynamicMessage], columns: &[FieldDescriptor]) -> String {
    let names = columns.iter().map(|field| field.json_name().to_owned());
    let lines = messages.iter().map(|message| {
        columns
            .iter()
            .map(|field| clipped(&cell(message, field)))
            .collect::<Vec<_>>()
    });
    table(Some(names.collect()), lines)
}

/// The same, where a resource that a row refers to is told by its name.
pub(crate) fn labelled_rows(
    messages: &[DynamicMessage],
    columns: &[FieldDescriptor],
    labels: &Labels,
) -> String {
    let names = columns.iter().map(|field| {
        let name = field.json_name();
        let refers = flag::references(field).filter(|noun| names::are_taken(noun));
        let short = refers.and_then(|_| name.strip_suffix("Uuid"));
        short.unwrap_or(name).to_owned()
    });
    let lines = messages.iter().map(|message| {
        let cells = columns.iter().map(|field| {
            let cell = cell(message, field);
            clipped(&labels.name(&cell).map_or_else(|| cell.clone(), printable))
        });
        cells.collect::<Vec<_>>()
    });
    table(Some(names.collect()), lines)
}

/// A table of messages; those that have a depth are a tree, and their first column shows it.
fn tree_or_rows(messages: &[DynamicMessage], mut columns: Vec<FieldDescriptor>) -> String {
    let Some(depth) = columns.iter().position(|field| field.name() == "depth") else {
        return rows(messages, &columns);
    };
    let depth = columns.remove(depth);
    let names = columns.iter().map(|field| field.json_name().to_owned());
    let lines = messages.iter().map(|message| {
        let depth = message.get_field(&depth).as_u32().unwrap_or_default();
        let mut cells: Vec<_> = columns
            .iter()
            .map(|field| clipped(&cell(message, field)))
            .collect();
        if let Some(first) = cells.first_mut() {
            first.insert_str(0, &"  ".repeat(depth as usize));
        }
        cells
    });
    table(Some(names.collect()), lines)
}

/// The fields of a message, a line each.
pub(crate) fn details(message: &DynamicMessage) -> String {
    let descriptor = message.descriptor();
    let fields = descriptor.fields().filter(|f| !is_secret(f));
    let lines = fields.map(|field| vec![field.json_name().to_owned(), cell(message, &field)]);
    table(None, lines)
}

/// The answer of a call: the messages in it one by one, lists of messages as tables.
pub(crate) fn answer(message: &DynamicMessage, catalog: &Catalog) -> String {
    let mut blocks = Vec::new();
    let mut rest = Vec::new();
    for field in message.descriptor().fields() {
        match message.get_field(&field).as_ref() {
            Value::Message(inner)
                if message.has_field(&field) && !is_well_known(&inner.descriptor()) =>
            {
                blocks.push(details(inner));
            }
            Value::List(list) if list.iter().any(|v| v.as_message().is_some()) => {
                let inner: Vec<_> = list.iter().filter_map(Value::as_message).cloned().collect();
                let of = inner.first().map(DynamicMessage::descriptor);
                let columns = of.map(|of| columns(&of, catalog, &[])).unwrap_or_default();
                blocks.push(tree_or_rows(&inner, columns));
            }
            _ if message.has_field(&field) => {
                rest.push(vec![field.json_name().to_owned(), cell(message, &field)]);
            }
            _ => {}
        }
    }
    if !rest.is_empty() {
        blocks.push(table(None, rest.into_iter()));
    }
    blocks.join("\n")
}

/// Which fields a table of these messages shows: the wanted ones, else those that the resource
/// is known by, else all.
pub(crate) fn columns(
    message: &MessageDescriptor,
    catalog: &Catalog,
    wanted: &[String],
) -> Vec<FieldDescriptor> {
    let by_name = |name: &str| {
        let by_json = || message.get_field_by_json_name(name);
        message.get_field_by_name(name).or_else(by_json)
    };
    if !wanted.is_empty() {
        return wanted.iter().filter_map(|name| by_name(name)).collect();
    }
    match resource_of(message, catalog) {
        Some(resource) => {
            let own = resource.columns.iter().map(String::as_str);
            let names = ["uuid", "name"].into_iter().chain(own);
            names.filter_map(by_name).collect()
        }
        None => message.fields().collect(),
    }
}

/// The type of resource that these messages are.
pub(crate) fn resource_of<'a>(
    message: &MessageDescriptor,
    catalog: &'a Catalog,
) -> Option<&'a ResourceType> {
    let mut resources = catalog.resources();
    resources
        .find(|resource| resource.message.full_name() == message.full_name())
        .map(|resource| &**resource)
}

/// Lines of cells, the first perhaps headings.
pub(crate) fn table(
    headings: Option<Vec<String>>,
    lines: impl Iterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    if let Some(headings) = headings {
        table.set_header(headings);
    }
    table.add_rows(lines.map(Row::from));
    for column in table.column_iter_mut() {
        // With the table's own blank between columns, two.
        column.set_padding((0, 1));
    }
    table.trim_fmt() + "\n"
}

fn cell(message: &DynamicMessage, field: &FieldDescriptor) -> String {
    if field.supports_presence() && !message.has_field(field) {
        return NOTHING.to_owned();
    }
    let text = text(field, &message.get_field(field));
    if text.is_empty() {
        NOTHING.to_owned()
    } else {
        text
    }
}

fn text(field: &FieldDescriptor, value: &Value) -> String {
    let sized = size::is_size(field.name());
    match value {
        Value::List(list) => joined(list.iter().map(|one| text(field, one)).collect()),
        Value::Map(map) => {
            let mut entries: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{}={}", key_text(key), plain(value)))
                .collect();
            entries.sort();
            joined(entries)
        }
        Value::EnumNumber(0) => String::new(),
        Value::EnumNumber(number) => {
            let names = field.kind().as_enum().map(EnumNames::of);
            let name = names.as_ref().and_then(|names| names.name(*number));
            name.map_or_else(|| number.to_string(), str::to_owned)
        }
        Value::U64(bytes) if sized => size::text(*bytes),
        Value::I64(bytes) if sized => {
            u64::try_from(*bytes).map_or_else(|_| bytes.to_string(), size::text)
        }
        Value::Message(it) if !of_resource(field) => message_text(it, true),
        other => plain(other),
    }
}

/// Whether the field is one of a resource, of which a day is of interest; of what else is told,
/// such as the steps of an operation, it is the milliseconds.
fn of_resource(field: &FieldDescriptor) -> bool {
    let options = field.parent_message().options();
    option(&options, "cairn.meta.v1alpha1.resource").is_some()
}

fn joined(texts: Vec<String>) -> String {
    texts.join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Bool(it) => it.to_string(),
        Value::I32(it) | Value::EnumNumber(it) => it.to_string(),
        Value::I64(it) => it.to_string(),
        Value::U32(it) => it.to_string(),
        Value::U64(it) => it.to_string(),
        Value::F32(it) => it.to_string(),
        Value::F64(it) => it.to_string(),
        Value::String(it) => printable(it),
        Value::Bytes(it) => format!("{} bytes", it.len()),
        Value::Message(it) => message_text(it, false),
        Value::List(it) => joined(it.iter().map(plain).collect()),
        Value::Map(_) => "…".to_owned(),
    }
}

/// Times to the second, or the millisecond; everything else as JSON.
fn message_text(message: &DynamicMessage, exactly: bool) -> String {
    match serde_json::to_value(message) {
        Ok(serde_json::Value::String(text)) => {
            match (message.descriptor().full_name(), text.split_once('.')) {
                ("google.protobuf.Timestamp", Some((seconds, fraction))) if exactly => {
                    let digits: String = fraction.chars().take(3).collect();
                    format!("{seconds}.{}Z", digits.trim_end_matches('Z'))
                }
                ("google.protobuf.Timestamp", Some((seconds, _))) => format!("{seconds}Z"),
                _ => text,
            }
        }
        Ok(json) => printable(&json.to_string()),
        Err(_) => "?".to_owned(),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(it) => it.to_string(),
        MapKey::I32(it) => it.to_string(),
        MapKey::I64(it) => it.to_string(),
        MapKey::U32(it) => it.to_string(),
        MapKey::U64(it) => it.to_string(),
        MapKey::String(it) => printable(it),
    }
}

/// A name is chosen by its owner and shown to others: it must not steer their terminals.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

fn clipped(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && text.chars().count() <= LONGEST_CELL {
        return text.to_owned();
    }
    let mut short: String = line.chars().take(LONGEST_CELL - 1).collect();
    short.push('…');
    short
}

fn is_secret(field: &FieldDescriptor) -> bool {
    option(&field.options(), "cairn.meta.v1alpha1.field")
        .and_then(|rules| rules.get_field_by_name("secret")?.as_bool())
        .unwrap_or(false)
}

fn is_well_known(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

/// What a field holds, in a word or two.
pub(crate) fn kind_text(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Enum(names) => EnumNames::of(&names)
            .names()
            .collect::<Vec<_>>()
            .join(" | "),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "time".to_owned(),
            _ => message.name().to_owned(),
        },
        _ if size::is_size(field.name()) => "bytes".to_owned(),
        other => format!("{other:?}"),
    };
    match field.cardinality() {
        _ if field.is_list() => format!("{kind}, several"),
        _ if field.supports_presence() && field.kind().as_message().is_none() => {
            format!("{kind}, or null")
        }
        _ => kind,
    }
}

#[cfg(test)]
mod tests;
