//! The traits of messages: what resources, requests and operations' responses have in common.

use std::fmt::{self, Write as _};

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use crate::names::{flag, option, parent_path, rust_field, rust_path, snake, text};

/// The trait implementations of every message.
pub(crate) fn of_all(pool: &DescriptorPool) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for message in pool
        .all_messages()
        .filter(|m| m.package_name().starts_with("cairn."))
    {
        if is_resource(&message) {
            resource(&message, &mut out)?;
        }
        operation_response(&message, &mut out)?;
        if let Some(key) = routing_key(&message) {
            request(&message, &key, pool, &mut out)?;
        }
    }
    Ok(out)
}

/// Whether a message has the resource option.
pub(crate) fn is_resource(message: &MessageDescriptor) -> bool {
    option(&message.options(), "cairn.meta.v1alpha1.resource").is_some()
}

/// Whether a message is the event of an operation.
pub(crate) fn is_operation_response(message: &MessageDescriptor) -> bool {
    result_of(message).is_some()
}

fn resource(message: &MessageDescriptor, out: &mut String) -> fmt::Result {
    let rules = option(&message.options(), "cairn.meta.v1alpha1.resource");
    let noun = rules.map(|rules| text(&rules, "name")).unwrap_or_default();
    writeln!(
        out,
        "impl crate::meta::Resource for {path} {{\n    \
         const NOUN: &'static str = {noun:?};\n    \
         fn uuid(&self) -> &str {{ &self.uuid }}\n    \
         fn account_mut(&mut self) -> &mut String {{ &mut self.account_uuid }}\n    \
         fn stamp(&mut self, now: prost_types::Timestamp) {{\n        \
         self.create_time.get_or_insert(now);\n        \
         self.last_operation_time = Some(now);\n    }}\n}}",
        path = rust_path(message)
    )
}

fn result_of(message: &MessageDescriptor) -> Option<MessageDescriptor> {
    let event = message.oneofs().find(|oneof| oneof.name() == "event")?;
    let field = |name| event.fields().find(|field| field.name() == name);
    let message_of = |field: FieldDescriptor| field.kind().as_message().cloned();
    let accepted = field("accepted").and_then(message_of)?;
    field("progress")?;
    let ours = accepted.full_name() == "cairn.operation.v1alpha1.Accepted";
    field("result").and_then(message_of).filter(|_| ours)
}

fn operation_response(message: &MessageDescriptor, out: &mut String) -> fmt::Result {
    let Some(result) = result_of(message) else {
        return Ok(());
    };
    let path = rust_path(message);
    let module = format!("{}::{}", parent_path(message), snake(message.name()));
    let result = rust_path(&result);
    write!(
        out,
        "impl crate::event::OperationResponse for {path} {{\n    \
         type Result = {result};\n    \
         fn from_event(event: crate::event::Event<{result}>) -> Self {{\n        \
         Self {{ event: Some(match event {{\n"
    )?;
    for case in ["Accepted", "Progress", "Result"] {
        writeln!(
            out,
            "            crate::event::Event::{case}(e) => {module}::Event::{case}(e),"
        )?;
    }
    write!(
        out,
        "        }}) }}\n    }}\n    \
         fn into_event(self) -> Option<crate::event::Event<{result}>> {{\n        \
         Some(match self.event? {{\n"
    )?;
    for case in ["Accepted", "Progress", "Result"] {
        writeln!(
            out,
            "            {module}::Event::{case}(e) => crate::event::Event::{case}(e),"
        )?;
    }
    writeln!(out, "        }})\n    }}\n}}")
}

fn rule(field: &FieldDescriptor) -> Option<prost_reflect::DynamicMessage> {
    option(&field.options(), "cairn.meta.v1alpha1.field")
}

fn references(field: &FieldDescriptor) -> Option<String> {
    rule(field)
        .map(|rules| text(&rules, "references"))
        .filter(|noun| !noun.is_empty())
}

fn routing_key(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message
        .fields()
        .find(|field| rule(field).is_some_and(|rules| flag(&rules, "routing_key")))
}

/// A request that names a resource by its key: its checks, what it refers to, and, by its name,
/// which resource it creates or changes.
fn request(
    message: &MessageDescriptor,
    key: &FieldDescriptor,
    pool: &DescriptorPool,
    out: &mut String,
) -> fmt::Result {
    let path = rust_path(message);
    writeln!(
        out,
        "impl crate::crud::Keyed for {path} {{\n    \
         fn key(&self) -> &str {{ &self.{} }}\n    \
         fn check(&self, check: &mut crate::crud::Check) {{",
        key.name()
    )?;
    for field in message.fields() {
        check(&field, key, out)?;
    }
    writeln!(
        out,
        "    }}\n    fn references(&self) -> Vec<crate::crud::Reference<'_>> {{\n        \
         let mut all = Vec::new();"
    )?;
    for field in message.fields().filter(|field| field.name() != key.name()) {
        if let Some(noun) = references(&field) {
            let each = if field.is_list() || field.supports_presence() {
                "for value in &self"
            } else {
                "{ let value = &self"
            };
            let name = field.name();
            writeln!(
                out,
                "        {each}.{name}{} all.push(crate::crud::Reference {{ field: {name:?}, noun: {noun:?}, uuid: value }}); }}",
                if each.starts_with("for") { " {" } else { ";" }
            )?;
        }
    }
    writeln!(out, "        all\n    }}\n}}")?;

    let named = |prefix: &str| {
        let noun = message
            .name()
            .strip_prefix(prefix)?
            .strip_suffix("Request")?;
        let resource = pool.get_message_by_name(&format!("{}.{noun}", message.package_name()))?;
        is_resource(&resource).then_some(resource)
    };
    if let Some(resource) = named("Create") {
        let target = rust_path(&resource);
        writeln!(
            out,
            "impl crate::crud::Create for {path} {{\n    type Resource = {target};\n    \
             fn resource(&self) -> {target} {{\n        {target} {{"
        )?;
        for (field, to) in shared(message, &resource) {
            let name = rust_field(field.name());
            let value = if field.supports_presence() && !to.supports_presence() {
                format!("self.{name}.clone().unwrap_or_default()")
            } else if to.supports_presence() && !field.supports_presence() {
                format!("Some(self.{name}.clone())")
            } else {
                format!("self.{name}.clone()")
            };
            writeln!(out, "            {name}: {value},")?;
        }
        writeln!(
            out,
            "            ..Default::default()\n        }}\n    }}\n}}"
        )?;
    } else if let Some(resource) = named("Update") {
        let target = rust_path(&resource);
        writeln!(
            out,
            "impl crate::crud::Update for {path} {{\n    type Resource = {target};\n    \
             fn apply(&self, resource: &mut {target}) {{"
        )?;
        for (field, to) in shared(message, &resource) {
            let name = rust_field(field.name());
            if !field.supports_presence() {
                continue;
            }
            let value = if to.supports_presence() {
                "Some(value.clone())"
            } else {
                "value.clone()"
            };
            writeln!(
                out,
                "        if let Some(value) = &self.{name} {{ resource.{name} = {value}; }}"
            )?;
        }
        writeln!(out, "    }}\n}}")?;
    } else if let Some(resource) = named("Delete") {
        let target = rust_path(&resource);
        writeln!(
            out,
            "impl crate::crud::Delete for {path} {{ type Resource = {target}; }}"
        )?;
    }
    Ok(())
}

/// The fields that a request and its resource have in common.
fn shared(
    request: &MessageDescriptor,
    resource: &MessageDescriptor,
) -> Vec<(FieldDescriptor, FieldDescriptor)> {
    let fields = request.fields().filter(|field| !field.is_list());
    fields
        .filter_map(|field| {
            let to = resource.get_field_by_name(field.name())?;
            (to.kind() == field.kind()).then_some((field, to))
        })
        .collect()
}

fn check(field: &FieldDescriptor, key: &FieldDescriptor, out: &mut String) -> fmt::Result {
    let name = field.name();
    let call = match field.kind() {
        Kind::String if name == key.name() || references(field).is_some() => {
            format!("check.uuid({name:?}, value)")
        }
        Kind::String if name == "name" => format!("check.name({name:?}, value)"),
        Kind::String if name == "description" => format!("check.description({name:?}, value)"),
        Kind::Enum(values) => format!("check.one_of({name:?}, *value, {:?})", values.full_name()),
        _ => return Ok(()),
    };
    let name = rust_field(name);
    if field.is_list() || field.supports_presence() {
        writeln!(out, "        for value in &self.{name} {{ {call}; }}")
    } else {
        writeln!(out, "        {{ let value = &self.{name}; {call}; }}")
    }
}
