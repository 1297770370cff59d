//! A plan's rows: the resource, and what it shows.

use async_trait::async_trait;
use cairn_proto::{
    cascade::v1alpha1::{
        CascadeContent, CascadeFailure, CascadePlan, CascadePlanState, DeleteCascadePlanRequest,
    },
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::Removal;
use cairn_store::{Row, StoreError, Tx, Value};
use cairn_types::ErrorCode;
use prost::Message as _;

/// What a plan shows; takes its uuid.
pub(crate) const CONTENT: &str = "SELECT content FROM cascade_plan_content WHERE plan_uuid = ?";

/// How long a plan is kept, in microseconds: who has not executed it in a day has forgotten it.
const KEPT: i64 = 24 * 60 * 60 * 1_000_000;

/// The most failures that are kept.
const FAILURES: usize = 1_000;

pub(crate) async fn insert(
    tx: &mut Tx,
    plan: &CascadePlan,
    content: &CascadeContent,
) -> Result<(), StoreError> {
    tx.insert(plan).await?;
    let sql = "INSERT INTO cascade_plan_content (plan_uuid, content) VALUES (?, ?)";
    let content = Value::Bytes(content.encode_to_vec().into());
    tx.execute(sql, vec![(&plan.uuid).into(), content]).await?;
    Ok(())
}

/// Adds to what a plan shows what was left: the first 1,000.
pub(crate) async fn keep_failures(
    tx: &mut Tx,
    uuid: &str,
    mut failures: Vec<CascadeFailure>,
) -> Result<(), Fault> {
    let shown = tx.rows(CONTENT, vec![uuid.into()]).await?;
    let mut shown = content(uuid, &shown)?;
    failures.truncate(FAILURES);
    shown.failures = failures;
    let sql = "UPDATE cascade_plan_content SET content = ? WHERE plan_uuid = ?";
    let content = Value::Bytes(shown.encode_to_vec().into());
    tx.execute(sql, vec![content, uuid.into()]).await?;
    Ok(())
}

/// Deletes plans that were made long before `now`, which is in microseconds.
pub(crate) async fn purge(tx: &mut Tx, now: i64) -> Result<(), StoreError> {
    let old = "create_time < ? AND state <> 'Executing'";
    let before = || vec![Value::Int(now.saturating_sub(KEPT))];
    let sql = format!(
        "DELETE FROM cascade_plan_content WHERE plan_uuid IN \
         (SELECT uuid FROM cascade_plan WHERE {old})"
    );
    tx.execute(&sql, before()).await?;
    let sql = format!("DELETE FROM cascade_plan WHERE {old}");
    tx.execute(&sql, before()).await?;
    Ok(())
}

/// What the rows of [`CONTENT`] hold.
pub(crate) fn content(uuid: &str, rows: &[Row]) -> Result<CascadeContent, Fault> {
    let row = rows.first();
    let row = row.ok_or_else(|| Fault::not_found(CascadePlan::NOUN, uuid))?;
    CascadeContent::decode(row.bytes(0)?).map_err(|cause| {
        let message = format!("what cascade-plan {uuid} shows cannot be read: {cause}");
        Fault::new(ErrorCode::Internal, message)
    })
}

/// What a plan shows goes with it; not while it is executing.
pub(crate) struct Gone;

#[async_trait]
impl Removal<DeleteCascadePlanRequest> for Gone {
    async fn complete(&self, tx: &mut Tx, plan: &CascadePlan) -> Result<(), Fault> {
        if plan.state() == CascadePlanState::Executing {
            return Err(wrong_state(plan, "it is deleted once it has ended"));
        }
        let sql = "DELETE FROM cascade_plan_content WHERE plan_uuid = ?";
        tx.execute(sql, vec![(&plan.uuid).into()]).await?;
        Ok(())
    }
}

/// The plan is in a state that forbids what was asked for.
pub(crate) fn wrong_state(plan: &CascadePlan, remedy: &str) -> Fault {
    let (noun, uuid, state) = (CascadePlan::NOUN, &plan.uuid, plan.state());
    let message = format!("{noun} {uuid} is {state:?}; {remedy}");
    Fault::new(ErrorCode::WrongState, message).on(noun, uuid)
}
