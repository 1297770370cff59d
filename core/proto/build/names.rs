//! What the other parts of the generator share: our options, and prost's names.

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};

pub(crate) fn option(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
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

/// A boolean of an option's message.
pub(crate) fn flag(rules: &DynamicMessage, name: &str) -> bool {
    rules
        .get_field_by_name(name)
        .and_then(|value| value.as_bool())
        .unwrap_or(false)
}

/// A text of an option's message; empty if it is not set.
pub(crate) fn text(rules: &DynamicMessage, name: &str) -> String {
    let value = rules.get_field_by_name(name);
    value
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(crate) fn parent_path(message: &MessageDescriptor) -> String {
    format!("crate::{}", message.package_name().replace('.', "::"))
}

pub(crate) fn rust_path(message: &MessageDescriptor) -> String {
    format!("{}::{}", parent_path(message), message.name())
}

/// As prost names modules: `L2NetworkService` is `l2_network_service`.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| chars[b]);
        let after_lower = chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        if c.is_uppercase()
            && before.is_some_and(|b| {
                b.is_lowercase() || b.is_numeric() || (b.is_uppercase() && after_lower)
            })
        {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// A field's name as prost writes it: a keyword of Rust is escaped.
pub(crate) fn rust_field(name: &str) -> String {
    const KEYWORDS: [&str; 14] = [
        "as", "async", "const", "enum", "fn", "for", "in", "loop", "match", "mod", "move", "ref",
        "type", "use",
    ];
    if KEYWORDS.contains(&name) {
        format!("r#{name}")
    } else {
        name.to_owned()
    }
}
