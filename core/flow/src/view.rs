//! The steps of a run, for people.

use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{OperationStep, OperationStepState},
};
use cairn_store::Store;
use cairn_types::OperationUuid;
use prost_types::Timestamp;

use crate::{
    Direction,
    log::{self, Kind},
};

/// The steps of an operation's flow in their order, without those that were left out; none if it
/// has no flow, or its flow has not begun.
///
/// # Errors
/// What the database says.
pub async fn steps(store: &Store, operation: OperationUuid) -> Result<Vec<OperationStep>, Fault> {
    let Some(recorded) = log::load(store, operation).await? else {
        return Ok(Vec::new());
    };
    let mut steps: Vec<OperationStep> = (1..)
        .zip(&recorded.steps)
        .map(|(position, name)| OperationStep {
            name: name.clone(),
            position,
            state: OperationStepState::Waiting.into(),
            ..OperationStep::default()
        })
        .collect();
    // A step without an intent begins where the one before it ended.
    let mut before = None;
    for (entry, time) in &recorded.entries {
        let time = timestamp(*time);
        let Some(at) = steps.iter().position(|step| step.name == entry.step) else {
            continue;
        };
        if entry.kind == Kind::Skipped {
            steps.remove(at);
            continue;
        }
        let step = &mut steps[at];
        match (entry.direction, entry.kind) {
            (Direction::Run, Kind::Intent) => {
                step.start_time = Some(time);
                step.set_state(OperationStepState::Running);
            }
            (_, Kind::Failed) => {
                step.set_state(OperationStepState::Failed);
                step.error_message = entry.error.clone().unwrap_or_default();
            }
            (direction, Kind::Outcome) => {
                step.set_state(match direction {
                    Direction::Run => OperationStepState::Done,
                    Direction::Rollback => OperationStepState::RolledBack,
                });
                step.start_time = step.start_time.or(before).or(Some(time));
                step.end_time = Some(time);
                before = Some(time);
            }
            (Direction::Rollback, Kind::Intent) | (_, Kind::Skipped) => {}
        }
    }
    Ok(steps)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // The remainder is below 1,000,000.
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}
