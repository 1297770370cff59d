//! From the stored line of a run to its steps: those of the flow as it is now where they are the
//! same, and otherwise whatever step has that name.

use std::sync::Arc;

use crate::{
    Part,
    flow::Definition,
    graph::Graph,
    hook::Hooks,
    part::{self, Inner, Kind, Line, Stored, StoredKind},
};

/// The steps of a run that was stored as `text`; or why there are none here.
pub(super) fn graph(flow: &Definition, text: &str) -> Result<Arc<Graph>, String> {
    if text == part::line(&flow.parts, flow.forward_after.as_deref()) {
        return Ok(Arc::clone(&flow.graph));
    }
    let line = Line::parse(text).ok_or_else(|| format!("`{text}` is no list of steps"))?;
    let mut missing = Vec::new();
    let parts = parts(flow, &line.parts, "", &mut missing);
    if !missing.is_empty() {
        return Err(format!(
            "it has steps that are not known: {}",
            missing.join(", ")
        ));
    }
    let forward_after = line
        .forward_after
        .unwrap_or_else(|| flow.forward_after.clone());
    Ok(Arc::new(Graph::of(&parts, forward_after.as_deref())))
}

fn parts(
    flow: &Definition,
    stored: &[Stored],
    prefix: &str,
    missing: &mut Vec<String>,
) -> Vec<Part> {
    let mut found = Vec::with_capacity(stored.len());
    for Stored { name, kind } in stored {
        let path = format!("{prefix}{name}");
        let part = match kind {
            StoredKind::Step(key) => match step(flow, &path, name, key.as_deref()) {
                Some(part) => part,
                None => {
                    missing.push(path);
                    continue;
                }
            },
            StoredKind::Group(inner) => {
                Part::group(name.clone(), parts(flow, inner, prefix, missing))
            }
            StoredKind::Flow(inner) => Part {
                name: name.clone(),
                kind: Kind::Flow(Inner {
                    parts: parts(flow, inner, &format!("{path}/"), missing),
                    hooks: Hooks::default(),
                    has_forward: false,
                }),
            },
        };
        found.push(part);
    }
    found
}

/// The step that a run has at `path` under `name`; `key` is what it is registered under, if the
/// run says so.
fn step(flow: &Definition, path: &str, name: &str, key: Option<&str>) -> Option<Part> {
    let same_key = |step: &str| key.is_none_or(|key| key == step);
    let leaves = &flow.graph.leaves;
    let here = leaves
        .iter()
        .find(|leaf| leaf.path == path && same_key(leaf.step.name()));
    let key = key.unwrap_or(name);
    let elsewhere = || leaves.iter().find(|leaf| leaf.step.name() == key);
    if let Some(leaf) = here.or_else(elsewhere) {
        let part = Part::of(Arc::clone(&leaf.step)).named(name);
        return Some(part.with(|_| leaf.options).when(leaf.condition.clone()));
    }
    let known = flow.known.get(key)?;
    Some(Part::of(Arc::clone(known)).named(name))
}
