//! Beginning the fix of what would be found, before anybody looks.

use cairn_proto::{
    call::Context,
    doctor::v1alpha1::{DoctorClient, FixFindingRequest},
    event,
    fault::Fault,
};
use cairn_types::TaskUuid;
use tonic::Code;

/// Begins a fix, and does not wait for it: once it is accepted it comes to its end. So whoever could
/// not reach a host leaves to the doctor what that keeps, and a job waits for it. What it keeps must
/// be nobody's by then: of what somebody has nothing is removed. Repeated with the same task it is
/// the same fix. In a cloud without a doctor nothing happens.
///
/// # Errors
/// Why it was not accepted.
pub async fn begin_fix(
    doctor: &DoctorClient,
    task: TaskUuid,
    request: FixFindingRequest,
) -> Result<(), Fault> {
    let mut context = Context::current();
    context.idempotency_key = Some(task.to_string().into());
    let begun = async { event::accepted(doctor.fix_finding(request).await?).await };
    match context.scope(begun).await {
        Err(status) if status.code() != Code::Unimplemented => Err(Fault::from_status(&status)),
        _ => Ok(()),
    }
}
