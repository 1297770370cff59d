//! Which field of a TOML document stands at a place of its text.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One step on the way from the document to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the key of a table.
    Key(String),
    /// Into an element of an array, from 0.
    Index(usize),
}

/// The way to the innermost key or value that covers the span.
pub(super) fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        // Inner ones first: a table's own span need not cover what is in it.
        let mut path = match in_value(value, span) {
            Some(path) => path,
            None if covers(&key.span(), span) || covers(&value.span(), span) => Vec::new(),
            None => return None,
        };
        path.insert(0, Step::Key(key.get_ref().to_string()));
        Some(path)
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            let mut path = match in_value(element, span) {
                Some(path) => path,
                None if covers(&element.span(), span) => Vec::new(),
                None => return None,
            };
            path.insert(0, Step::Index(index));
            Some(path)
        }),
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    !inner.is_empty() && outer.start <= inner.start && inner.end <= outer.end
}

/// Takes the last key on the way out of the document, with everything below it.
pub(super) fn remove(table: &mut DeTable<'_>, path: &[Step]) {
    let Some((Step::Key(key), rest)) = path.split_first() else {
        return;
    };
    if !rest.iter().any(|step| matches!(step, Step::Key(_))) {
        table.remove(key.as_str());
        return;
    }
    let mut value = table.get_mut(key.as_str()).map(Spanned::get_mut);
    for (depth, step) in rest.iter().enumerate() {
        value = match (value, step) {
            (Some(DeValue::Array(array)), Step::Index(index)) => {
                array.get_mut(*index).map(Spanned::get_mut)
            }
            (Some(DeValue::Table(table)), Step::Key(_)) => return remove(table, &rest[depth..]),
            _ => return,
        };
    }
}

/// The way as a person writes it: `hosts[2].name`.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}
