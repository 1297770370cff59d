//! Deleting with everything below, as a client does it.

use cairn_proto::{
    call::Mesh,
    cascade::v1alpha1::{
        CascadePlan, CascadePlanClient, CreateCascadePlanRequest, ExecuteCascadePlanRequest,
        GetCascadePlanRequest, GetCascadePlanResponse,
    },
    event::result,
    fault::Fault,
};

/// Makes a plan for a resource, and reads it.
///
/// # Errors
/// Why there is none.
pub async fn plan(mesh: &Mesh, noun: &str, uuid: &str) -> Result<GetCascadePlanResponse, Fault> {
    let plans = CascadePlanClient::new(mesh.clone());
    let request = CreateCascadePlanRequest {
        resource_type: noun.to_owned(),
        resource_uuid: uuid.to_owned(),
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
    let plans = CascadePlanClient::new(mesh.clone());
    let uuid = plan.cascade_plan.clone().unwrap_or_default().uuid;
    let request = ExecuteCascadePlanRequest { uuid };
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
