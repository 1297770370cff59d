//! The steps of a run as a tree, for people.

use std::collections::HashMap;

use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{OperationStep, OperationStepKind, OperationStepState as State},
};
use cairn_store::Store;
use cairn_types::OperationUuid;
use prost_types::Timestamp;

use crate::{
    Direction, FlowError,
    log::{self, Kind, Recorded},
    part::{Line, Stored, StoredKind},
};

/// The steps of an operation's flow in their order, each behind the group or the flow that it is
/// in, without those that were left out; none if it has no flow, or its flow has not begun.
///
/// # Errors
/// What the database says.
pub async fn steps(store: &Store, operation: OperationUuid) -> Result<Vec<OperationStep>, Fault> {
    let Some(recorded) = log::load(store, operation).await? else {
        return Ok(Vec::new());
    };
    let line = Line::parse(&recorded.steps).ok_or_else(|| FlowError::Log {
        operation: operation.to_string(),
        problem: format!("`{}` is no list of steps", recorded.steps),
    })?;
    let mut leaves = leaves(&recorded);
    let mut steps = Vec::new();
    lay(&line.parts, "", 0, &mut leaves, &mut 0, &mut steps);
    Ok(steps)
}

/// What the log says of each step, by its path; none of one that was left out.
fn leaves(recorded: &Recorded) -> HashMap<&str, Option<OperationStep>> {
    let mut leaves: HashMap<&str, Option<OperationStep>> = HashMap::new();
    // A step without an intent begins where the one before it ended.
    let mut before = None;
    for (entry, time) in &recorded.entries {
        let time = timestamp(*time);
        let leaf = leaves
            .entry(&entry.step)
            .or_insert_with(|| Some(OperationStep::default()));
        if entry.kind() == Kind::Skipped {
            *leaf = None;
            continue;
        }
        let Some(step) = leaf else {
            continue;
        };
        match (entry.direction(), entry.kind()) {
            (Direction::Run, Kind::Intent) => {
                step.start_time = Some(time);
                step.set_state(State::Running);
            }
            (direction, Kind::Failed) => {
                step.set_state(State::Failed);
                step.error_message = entry.error.clone().unwrap_or_default();
                step.attempts += u32::from(direction == Direction::Run);
            }
            (direction, Kind::Outcome) => {
                step.set_state(match direction {
                    Direction::Run => State::Done,
                    Direction::Rollback => State::RolledBack,
                });
                step.attempts += u32::from(direction == Direction::Run);
                step.start_time = step.start_time.or(before).or(Some(time));
                step.end_time = Some(time);
                before = Some(time);
            }
            (Direction::Rollback, Kind::Intent) | (_, Kind::Skipped) => {}
        }
    }
    leaves
}

/// Puts parts with all that is in them behind `steps`.
fn lay(
    parts: &[Stored],
    prefix: &str,
    depth: u32,
    leaves: &mut HashMap<&str, Option<OperationStep>>,
    position: &mut u32,
    steps: &mut Vec<OperationStep>,
) {
    for Stored { name, kind } in parts {
        *position += 1;
        let path = format!("{prefix}{name}");
        let place = OperationStep {
            name: name.clone(),
            position: *position,
            depth,
            ..OperationStep::default()
        };
        let (kind, parts, prefix) = match kind {
            StoredKind::Step(_) => {
                let mut known = leaves.remove(path.as_str()).unwrap_or_else(|| {
                    Some(OperationStep {
                        state: State::Waiting.into(),
                        ..OperationStep::default()
                    })
                });
                if let Some(step) = known.take() {
                    steps.push(OperationStep {
                        name: place.name,
                        position: place.position,
                        depth,
                        kind: OperationStepKind::Step.into(),
                        ..step
                    });
                }
                continue;
            }
            StoredKind::Group(parts) => (OperationStepKind::Group, parts, prefix.to_owned()),
            StoredKind::Flow(parts) => (OperationStepKind::Flow, parts, format!("{path}/")),
        };
        let at = steps.len();
        lay(parts, &prefix, depth + 1, leaves, position, steps);
        let inside: Vec<_> = steps[at..]
            .iter()
            .filter(|step| step.depth == depth + 1)
            .collect();
        if !inside.is_empty() {
            let whole = whole(&inside);
            let whole = OperationStep {
                kind: kind.into(),
                name: place.name,
                position: place.position,
                depth,
                ..whole
            };
            steps.insert(at, whole);
        }
    }
}

/// What became of the parts of a group or a flow, as one.
fn whole(parts: &[&OperationStep]) -> OperationStep {
    let any = |state| parts.iter().any(|part| part.state() == state);
    let all = |state| parts.iter().all(|part| part.state() == state);
    let state = if any(State::Failed) {
        State::Failed
    } else if any(State::Running) {
        State::Running
    } else if all(State::Waiting) {
        State::Waiting
    } else if all(State::Done) {
        State::Done
    } else if any(State::RolledBack) && !any(State::Done) {
        State::RolledBack
    } else {
        State::Running
    };
    let key = |time: &Timestamp| (time.seconds, time.nanos);
    let starts = parts.iter().filter_map(|part| part.start_time);
    let ends = parts.iter().filter_map(|part| part.end_time);
    let is_over = matches!(state, State::Done | State::RolledBack);
    OperationStep {
        state: state.into(),
        start_time: starts.min_by_key(key),
        end_time: ends.max_by_key(key).filter(|_| is_over),
        ..OperationStep::default()
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // The remainder is below 1,000,000.
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}
