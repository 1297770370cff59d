//! Beginning the fix of what would be found, before anybody looks.

use cairn_proto::{
    call::Context,
    doctor::v1alpha1::{DoctorClient, FixFindingRequest},
    event::{Event, OperationResponse as _},
    fault::Fault,
};
use cairn_types::{ErrorCode, TaskUuid};
use futures::StreamExt as _;
use tonic::{Code, Status};

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
    let begun = context.scope(async {
        let mut events = doctor.fix_finding(request).await?;
        while let Some(event) = events.next().await {
            if let Some(Event::Accepted(_)) = event?.into_event() {
                return Ok::<_, Status>(());
            }
        }
        let message = "a fix was neither accepted nor refused";
        Err(Fault::new(ErrorCode::Unavailable, message).into())
    });
    match begun.await {
        Err(status) if status.code() != Code::Unimplemented => Err(Fault::from_status(&status)),
        _ => Ok(()),
    }
}
