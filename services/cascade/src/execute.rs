//! Executing a plan: everything in it is marked as going, in the transaction that finds that it is
//! still what was shown; then it is deleted, what is below first.
//!
//! From the marks on the operation keeps a log, which is the plan's state: no time limit drops it,
//! and each of its ends takes the marks away.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_cascade::{CascadeError, find};
use cairn_operation::{At, Committed, Ended, Handler, OperationContext, Point, Queue, Verdict};
use cairn_proto::{
    call::{Mesh, Method, Rpc as _},
    cascade::v1alpha1::{
        CascadeContent, CascadeItem, CascadePlan, CascadePlanState, ExecuteCascadePlanRequest,
        ExecuteCascadePlanResponse,
    },
    crud::{Check, Keyed as _},
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::ErrorCode;
use prost::Message as _;

use crate::rows::{self, wrong_state};

/// How many differences and blockers a refusal tells.
const TOLD: usize = 5;

pub(crate) struct Execute {
    pub(crate) mesh: Mesh,
}

#[async_trait]
impl Handler for Execute {
    type Request = ExecuteCascadePlanRequest;
    type Response = ExecuteCascadePlanResponse;
    type Spec = String;
    const METHOD: &'static Method = ExecuteCascadePlanRequest::METHOD;

    fn check(&self, request: &Self::Request) -> Result<String, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        check.finish()?;
        Ok(request.uuid.clone())
    }

    fn queue(&self, uuid: &String) -> Queue {
        Queue::serial(CascadePlan::NOUN, uuid)
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(24 * 60 * 60)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        uuid: Arc<String>,
    ) -> Result<Ended<CascadePlan>, Fault> {
        let begun = {
            let (operation, uuid) = (cx.uuid(), Arc::clone(&uuid));
            cx.commit(move |tx| {
                let uuid = Arc::clone(&uuid);
                Box::pin(async move {
                    let plan = begin(tx, &uuid).await?;
                    OperationContext::mark_log(tx, operation).await?;
                    Ok(Verdict::GoOn(plan))
                })
            })
        };
        let plan = match begun.await? {
            Committed::GoOn(plan) => plan,
            Committed::Ended(ending) => return Ended::of(ending),
        };
        cx.begin_log();
        cx.failpoint(At {
            point: Point::AfterOutcome,
            flow: "cascade",
            step: "mark",
            direction: "run",
        })
        .await;
        let deleted = self.delete(cx, &plan).await;
        let ended = cx.commit::<(), _>(move |tx| {
            let (mut plan, deleted) = (plan.clone(), deleted.clone());
            Box::pin(async move {
                plan.set_state(match deleted {
                    Ok(()) => CascadePlanState::Executed,
                    Err(_) => CascadePlanState::Failed,
                });
                plan.stamp(now());
                tx.clear_going(&plan.uuid).await?;
                tx.update(&plan).await?;
                Ok(match deleted {
                    Ok(()) => Verdict::Succeeded(plan.encode_to_vec().into()),
                    Err(fault) => Verdict::Failed(fault),
                })
            })
        });
        match ended.await? {
            Committed::Ended(ending) => Ended::of(ending),
            Committed::GoOn(()) => Err(Fault::new(ErrorCode::Internal, "a cascade without an end")),
        }
    }
}

impl Execute {
    async fn delete(&self, cx: &OperationContext, plan: &CascadePlan) -> Result<(), Fault> {
        let (noun, uuid) = (plan.resource_type.clone(), plan.resource_uuid.clone());
        let found = cx.store().write(move |tx| {
            let (noun, uuid) = (noun.clone(), uuid.clone());
            Box::pin(async move { find(tx, &noun, &uuid).await })
        });
        match found.await {
            Ok(found) => found.delete(&self.mesh, cx).await,
            // The first one goes last.
            Err(CascadeError::NoResource { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Marks what the plan shows, unless that was done before a crash.
async fn begin(tx: &mut Tx, uuid: &str) -> Result<CascadePlan, Fault> {
    let plan = tx.get::<CascadePlan>(uuid).await?;
    let mut plan = plan.ok_or_else(|| Fault::not_found(CascadePlan::NOUN, uuid))?;
    match plan.state() {
        CascadePlanState::Executing => return Ok(plan),
        CascadePlanState::Planned => {}
        _ => return Err(wrong_state(&plan, "make a new plan")),
    }
    let shown = tx.rows(rows::CONTENT, vec![uuid.into()]).await?;
    let shown = rows::content(uuid, &shown)?;
    let found = find(tx, &plan.resource_type, &plan.resource_uuid).await?;
    let now_found = found.content();
    refuse_blocked(&plan, &now_found, found.blocker_count())?;
    refuse_outdated(&plan, &shown, &now_found)?;
    found.mark(tx, uuid).await?;
    plan.set_state(CascadePlanState::Executing);
    plan.stamp(now());
    tx.update(&plan).await?;
    Ok(plan)
}

fn refuse_blocked(plan: &CascadePlan, found: &CascadeContent, count: usize) -> Result<(), Fault> {
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
fn refuse_outdated(
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
            None => differences.push(text(item, "would go too")),
            Some(known) if known.action != item.action => {
                let now = item.action().as_str_name();
                differences.push(text(item, &format!("would have the action {now}")));
            }
            Some(_) => {}
        }
    }
    let mut gone: Vec<_> = before.into_values().collect();
    gone.sort_by(|a, b| (&a.name, &a.resource_uuid).cmp(&(&b.name, &b.resource_uuid)));
    let gone = gone.into_iter();
    differences.extend(gone.map(|item| text(item, "does not go with it any more")));
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
