//! What the proto files say of their parts: the help texts.

use prost_reflect::{
    EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
};

/// What is said of a message, without the name that such a comment begins with.
pub(crate) fn of_message(message: &MessageDescriptor) -> String {
    let text = at(&message.parent_file(), message.path());
    without_subject(&text, message.name())
}

/// What is said of an rpc, without its name.
pub(crate) fn of_method(method: &MethodDescriptor) -> String {
    let text = at(&method.parent_file(), method.path());
    without_subject(&text, method.name())
}

/// What is said of a field.
pub(crate) fn of_field(field: &FieldDescriptor) -> String {
    at(&field.parent_file(), field.path())
}

/// What is said of an enum's value.
pub(crate) fn of_value(value: &EnumValueDescriptor) -> String {
    at(&value.parent_file(), value.path())
}

/// Empty where the descriptors came without source info.
fn at(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let mut locations = proto.source_code_info.iter().flat_map(|s| &s.location);
    let Some(location) = locations.find(|location| location.path == path) else {
        return String::new();
    };
    let lines: Vec<_> = location.leading_comments().lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}

/// `Zone: a data centre.` and `CreateZone creates a zone.` become what they say.
fn without_subject(text: &str, subject: &str) -> String {
    let rest = text.strip_prefix(subject).unwrap_or(text);
    let rest = rest.strip_prefix(':').unwrap_or(rest).trim_start();
    let mut chars = rest.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The first sentence of a comment, for lists.
pub(crate) fn sentence(text: &str) -> &str {
    text.split_once(". ")
        .map_or(text, |(first, _)| &text[..=first.len()])
}

#[cfg(test)]
mod tests {
    use cairn_proto::meta::Catalog;

    use super::*;

    #[test]
    fn comments_become_help() {
        let catalog = Catalog::built_in();
        let pool = catalog.pool();
        let service = pool.get_service_by_name("cairn.compute.v1alpha1.ZoneService");
        let methods: Vec<_> = service.unwrap().methods().collect();
        let delete = methods.iter().find(|m| m.name() == "DeleteZone").unwrap();
        let text = of_method(delete);
        assert_eq!(
            text,
            "Deletes a zone. It is refused while other resources refer to it."
        );
        assert_eq!(sentence(&text), "Deletes a zone.");
        let name = delete.input().get_field_by_name("uuid").unwrap();
        assert_eq!(of_field(&name), "The zone.");
    }
}
