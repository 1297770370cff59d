//! Whether a plan may be executed: nothing stands against it, and it is still what was shown.

use std::collections::HashMap;

use cairn_proto::{
    cascade::v1alpha1::{CascadeAction, CascadeContent, CascadeItem, CascadePlan},
    fault::Fault,
    meta::Resource as _,
};
use cairn_types::ErrorCode;

/// How many differences and blockers a refusal tells.
const TOLD: usize = 5;

/// Something that stays refers to what is to go.
pub(crate) fn refuse_blocked(
    plan: &CascadePlan,
    found: &CascadeContent,
    count: usize,
) -> Result<(), Fault> {
    if count == 0 {
        return Ok(());
    }
    let told = found.blockers.iter().take(TOLD).map(|blocker| {
        format!(
            "{} {} ({}), which refers to {} {}",
            blocker.resource_type,
            blocker.name,
            blocker.resource_uuid,
            blocker.refers_to_type,
            blocker.refers_to_uuid
        )
    });
    let message = format!(
        "{} {} is in use by {}",
        plan.resource_type,
        plan.resource_uuid,
        list(told.collect(), count)
    );
    Err(Fault::new(ErrorCode::InUse, message).on(&plan.resource_type, &plan.resource_uuid))
}

/// The plan fits as long as the same resources have the same actions; names do not matter, nor
/// what is below what.
pub(crate) fn refuse_outdated(
    plan: &CascadePlan,
    shown: &CascadeContent,
    found: &CascadeContent,
) -> Result<(), Fault> {
    let key = |item: &CascadeItem| (item.resource_type.clone(), item.resource_uuid.clone());
    let mut before: HashMap<_, _> = shown.items.iter().map(|item| (key(item), item)).collect();
    let text = |item: &CascadeItem, what: &str| {
        format!(
            "{} {} ({}) {what}",
            item.resource_type, item.name, item.resource_uuid
        )
    };
    let mut differences = Vec::new();
    for item in &found.items {
        match before.remove(&key(item)) {
            None => differences.push(text(item, &format!("would be {} too", past(item.action())))),
            Some(known) if known.action != item.action => {
                let (now, before) = (past(item.action()), past(known.action()));
                differences.push(text(item, &format!("would be {now}, not {before}")));
            }
            Some(_) => {}
        }
    }
    let mut gone: Vec<_> = before.into_values().collect();
    gone.sort_by(|a, b| (&a.name, &a.resource_uuid).cmp(&(&b.name, &b.resource_uuid)));
    let gone = gone.into_iter();
    differences.extend(gone.map(|item| text(item, "is not concerned any more")));
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(TOLD);
    let message = format!(
        "cascade-plan {} does not fit any more: {}; make a new plan",
        plan.uuid,
        list(differences, count)
    );
    Err(Fault::new(ErrorCode::PlanOutdated, message).on(CascadePlan::NOUN, &plan.uuid))
}

fn list(told: Vec<String>, count: usize) -> String {
    let more = count - told.len();
    let told = told.join(", ");
    match more {
        0 => told,
        more => format!("{told}, and {more} more"),
    }
}

/// What a resource is after an action.
fn past(action: CascadeAction) -> &'static str {
    match action {
        CascadeAction::Part => "deleted with its whole",
        CascadeAction::Stop => "stopped",
        CascadeAction::Detach => "detached",
        CascadeAction::Clear => "cleared of a reference",
        CascadeAction::Operate => "operated on",
        CascadeAction::Unspecified | CascadeAction::Delete => "deleted",
    }
}
