//! Changes of the parts of a flow that is extended: in it, in its groups, in the flows in it.

use crate::part::{Kind, Part};

/// Where the new parts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Replace,
    Before,
    After,
}

/// Puts `new` where the part at `path` is, or beside it; `false` if there is none.
pub(super) fn change(parts: &mut Vec<Part>, path: &str, verb: Verb, new: &mut Vec<Part>) -> bool {
    let (name, rest) = match path.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    if let Some(index) = parts.iter().position(|part| part.name == name) {
        let Some(rest) = rest else {
            let range = match verb {
                Verb::Replace => index..index + 1,
                Verb::Before => index..index,
                Verb::After => index + 1..index + 1,
            };
            parts.splice(range, new.drain(..));
            return true;
        };
        return match &mut parts[index].kind {
            Kind::Flow(inner) => change(&mut inner.parts, rest, verb, new),
            _ => false,
        };
    }
    // What is in a group shares the names around it.
    parts.iter_mut().any(|part| match &mut part.kind {
        Kind::Group(parts) => change(parts, path, verb, new),
        _ => false,
    })
}
