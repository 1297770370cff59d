//! Doing something with everything below, as a client does it.

use cairn_proto::{
    call::Mesh,
    cascade::v1alpha1::{
        CascadeMode, CascadePlan, CascadePlanClient, CreateCascadePlanRequest,
        ExecuteCascadePlanRequest, GetCascadePlanRequest, GetCascadePlanResponse,
    },
    event::result,
    fault::Fault,
};

/// Makes a plan to delete a resource, and reads it.
///
/// # Errors
/// Why there is none.
pub async fn plan(mesh: &Mesh, noun: &str, uuid: &str) -> Result<GetCascadePlanResponse, Fault> {
    plan_for(mesh, "", noun, uuid).await
}

/// Makes a plan for an operation on a resource, and reads it.
///
/// # Errors
/// Why there is none.
pub async fn plan_for(
    mesh: &Mesh,
    operation: &str,
    noun: &str,
    uuid: &str,
) -> Result<GetCascadePlanResponse, Fault> {
    let plans = CascadePlanClient::new(mesh.clone());
    let request = CreateCascadePlanRequest {
        resource_type: noun.to_owned(),
        resource_uuid: uuid.to_owned(),
        operation: operation.to_owned(),
        ..Default::default()
    };
    let read = async {
        let uuid = result(plans.create_cascade_plan(request).await?)
            .await?
            .uuid;
        let request = GetCascadePlanRequest {
            uuid,
            ..Default::default()
        };
        plans.get_cascade_plan(request).await
    };
    read.await.map_err(|status| Fault::from_status(&status))
}

/// Executes a plan to its end.
///
/// # Errors
/// What it ended with.
pub async fn execute_plan(
    mesh: &Mesh,
    plan: &GetCascadePlanResponse,
) -> Result<CascadePlan, Fault> {
    execute_plan_in(mesh, plan, CascadeMode::Permissive).await
}

/// Executes a plan to its end, in a mode.
///
/// # Errors
/// What it ended with.
pub async fn execute_plan_in(
    mesh: &Mesh,
    plan: &GetCascadePlanResponse,
    mode: CascadeMode,
) -> Result<CascadePlan, Fault> {
    let plans = CascadePlanClient::new(mesh.clone());
    let uuid = plan.cascade_plan.clone().unwrap_or_default().uuid;
    let mode = Some(mode.into());
    let request = ExecuteCascadePlanRequest { uuid, mode };
    let ended = async { result(plans.execute_cascade_plan(request).await?).await };
    ended.await.map_err(|status| Fault::from_status(&status))
}

/// Deletes a resource with everything below it.
///
/// # Errors
/// Why that failed.
pub async fn cascade(mesh: &Mesh, noun: &str, uuid: &str) -> Result<CascadePlan, Fault> {
    let plan = plan(mesh, noun, uuid).await?;
    execute_plan(mesh, &plan).await
}
