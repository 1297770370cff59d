//! A destruction that has begun: how the virtual machine was before it, kept beside its row, for who
//! has to begin it again.

use cairn_flow::gc;
use cairn_proto::{
    compute::v1alpha1::{VmInstance, VmInstanceState as State},
    fault::Fault,
    meta::Resource as _,
};
use cairn_store::Tx;
use cairn_types::ErrorCode;

/// The flows that destroy.
const FLOWS: [&str; 3] = [
    "destroy-vm-instance",
    "set-aside-vm-instance",
    "expunge-vm-instance",
];

/// The virtual machine as it was before its destruction began, if it has.
///
/// # Errors
/// `WRONG_STATE` if a job goes on with that one.
pub(super) async fn before(tx: &mut Tx, vm: &VmInstance) -> Result<VmInstance, Fault> {
    let mut before = vm.clone();
    if vm.state() != State::Destroying {
        return Ok(before);
    }
    let uuid = &vm.uuid;
    if let Some(job) = gc::left_of(tx, uuid, &FLOWS).await? {
        let message = format!(
            "virtual machine {uuid} is Destroying, and gc-job {job} goes on with that; trigger it, \
             or delete it first"
        );
        return Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, uuid));
    }
    let sql = "SELECT state FROM vm_instance_destroying WHERE vm_instance_uuid = ?";
    let rows = tx.rows(sql, vec![uuid.into()]).await?;
    // One that began before that was noted is taken to hold what it held while it ran.
    let was = rows.first().map(|row| row.text(0)).transpose()?;
    let was = was.and_then(|was| STATES.into_iter().find(|state| format!("{state:?}") == was));
    before.set_state(was.unwrap_or(State::Running));
    Ok(before)
}

/// Those from which a destruction begins.
const STATES: [State; 7] = [
    State::Starting,
    State::Running,
    State::Stopping,
    State::Stopped,
    State::Rebooting,
    State::Destroyed,
    State::Unknown,
];

/// Keeps how it was.
pub(super) async fn note(tx: &mut Tx, before: &VmInstance) -> Result<(), Fault> {
    let sql = "INSERT INTO vm_instance_destroying (vm_instance_uuid, state) VALUES (?, ?) \
               ON CONFLICT DO NOTHING";
    let state = format!("{:?}", before.state());
    tx.execute(sql, vec![(&before.uuid).into(), state.into()])
        .await?;
    Ok(())
}

/// It is over.
pub(super) async fn forget(tx: &mut Tx, uuid: &str) -> Result<(), Fault> {
    let sql = "DELETE FROM vm_instance_destroying WHERE vm_instance_uuid = ?";
    tx.execute(sql, vec![uuid.into()]).await?;
    Ok(())
}
