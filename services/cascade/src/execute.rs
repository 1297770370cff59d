//! Executing a plan: everything in it is marked, in the transaction that finds that it is still what
//! was shown; then it is done, what is below first.
//!
//! From the marks on the operation keeps a log, which is the plan's state: no time limit drops it,
//! and each of its ends takes the marks away.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_cascade::{CascadeError, Executed, Found, find_for};
use cairn_operation::{At, Committed, Ended, KeyedHandler, OperationContext, Point, Verdict};
use cairn_proto::{
    call::Mesh,
    cascade::v1alpha1::{CascadeFailure, CascadePlan, CascadePlanState, ExecuteCascadePlanRequest},
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::ErrorCode;
use prost::Message as _;

use crate::{
    compare::{refuse_blocked, refuse_outdated},
    operation,
    rows::{self, wrong_state},
};

/// How many failures an error tells.
const TOLD: usize = 5;

pub(crate) struct Execute {
    pub(crate) mesh: Mesh,
}

#[async_trait]
impl KeyedHandler for Execute {
    type Request = ExecuteCascadePlanRequest;
    type Resource = CascadePlan;

    fn time_limit(&self) -> Duration {
        Duration::from_secs(24 * 60 * 60)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<CascadePlan>, Fault> {
        let begun = {
            let (operation, request) = (cx.uuid(), Arc::clone(&request));
            cx.commit(move |tx| {
                let request = Arc::clone(&request);
                Box::pin(async move {
                    let begun = begin(tx, &request.uuid).await?;
                    OperationContext::mark_log(tx, operation).await?;
                    Ok(Verdict::GoOn(begun))
                })
            })
        };
        let (plan, found) = match begun.await? {
            Committed::GoOn(begun) => begun,
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
        let executed = match found {
            Some(found) => found.execute(&self.mesh, cx, request.mode()).await,
            // The first one goes last.
            None => Ok(Executed::default()),
        };
        let executed = executed.map(|executed| executed.failures);
        let ended = cx.commit::<(), _>(move |tx| {
            let (plan, executed) = (plan.clone(), executed.clone());
            Box::pin(async move { end(tx, plan, executed).await })
        });
        match ended.await? {
            Committed::Ended(ending) => Ended::of(ending),
            Committed::GoOn(()) => Err(Fault::new(ErrorCode::Internal, "a cascade without an end")),
        }
    }
}

/// Marks what the plan shows, unless that was done before a crash. Without what was found, all of
/// it is done.
async fn begin(tx: &mut Tx, uuid: &str) -> Result<(CascadePlan, Option<Found>), Fault> {
    let plan = tx.get::<CascadePlan>(uuid).await?;
    let mut plan = plan.ok_or_else(|| Fault::not_found(CascadePlan::NOUN, uuid))?;
    let (noun, first) = (&plan.resource_type, &plan.resource_uuid);
    let operation = operation::named(tx.catalog(), noun, &plan.operation)?;
    match plan.state() {
        CascadePlanState::Executing => {
            return match find_for(tx, &operation, noun, first).await {
                Ok(found) => Ok((plan, Some(found))),
                Err(CascadeError::NoResource { .. }) => Ok((plan, None)),
                Err(error) => Err(error.into()),
            };
        }
        CascadePlanState::Planned => {}
        _ => return Err(wrong_state(&plan, "make a new plan")),
    }
    let shown = tx.rows(rows::CONTENT, vec![uuid.into()]).await?;
    let shown = rows::content(uuid, &shown)?;
    let found = find_for(tx, &operation, noun, first).await?;
    let now_found = found.content();
    refuse_blocked(&plan, &now_found, found.blocker_count())?;
    refuse_outdated(&plan, &shown, &now_found)?;
    found.mark(tx, uuid).await?;
    plan.set_state(CascadePlanState::Executing);
    plan.stamp(now());
    tx.update(&plan).await?;
    Ok((plan, Some(found)))
}

/// Takes the marks away, and says how it ended.
async fn end(
    tx: &mut Tx,
    mut plan: CascadePlan,
    executed: Result<Vec<CascadeFailure>, Fault>,
) -> Result<Verdict<()>, Fault> {
    tx.clear_going(&plan.uuid).await?;
    let ended = match executed {
        Ok(failures) if failures.is_empty() => Ok(()),
        Ok(failures) => {
            plan.failure_count = failures.len() as u64;
            let fault = incomplete(&plan, &failures);
            rows::keep_failures(tx, &plan.uuid, failures).await?;
            Err(fault)
        }
        Err(fault) => Err(fault),
    };
    plan.set_state(match ended {
        Ok(()) => CascadePlanState::Executed,
        Err(_) => CascadePlanState::Failed,
    });
    plan.stamp(now());
    tx.update(&plan).await?;
    Ok(match ended {
        Ok(()) => Verdict::Succeeded(plan.encode_to_vec().into()),
        Err(fault) => Verdict::Failed(fault),
    })
}

/// What an enforcing execution ends with that had to leave something.
fn incomplete(plan: &CascadePlan, failures: &[CascadeFailure]) -> Fault {
    let told = failures.iter().take(TOLD).map(|failure| {
        let item = failure.item.clone().unwrap_or_default();
        let (noun, name, uuid) = (item.resource_type, item.name, item.resource_uuid);
        format!("{noun} {name} ({uuid}): {}", failure.message)
    });
    let (count, all) = (failures.len(), plan.item_count);
    let more = match count.saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let told: Vec<_> = told.collect();
    let (noun, uuid) = (CascadePlan::NOUN, &plan.uuid);
    let message = format!(
        "{count} of {all} resources of {noun} {uuid} are left as they were; {}{more}",
        told.join("; ")
    );
    Fault::new(ErrorCode::CascadeIncomplete, message).on(noun, uuid)
}
