//! The periodic expunge: what was deleted for longer than it is kept goes.

use cairn_proto::{
    compute::v1alpha1::{ExpungeVmInstanceRequest, VmInstance, VmInstanceClient},
    event::result,
};
use cairn_store::{Store, Value};
use cairn_types::chain;
use futures::{StreamExt as _, stream};
use tracing::{info, warn};

/// How many are expunged at once.
const AT_ONCE: usize = 8;

/// Expunges the virtual machines that were deleted at `due` or before, in microseconds.
pub(crate) async fn expunge_due(store: &Store, vms: &VmInstanceClient, due: i64) {
    let deleted = "state = 'Destroyed' AND last_operation_time <= ?";
    let due = store.list::<VmInstance>(deleted, vec![Value::Int(due)]);
    let due = match due.await {
        Ok(due) => due,
        Err(error) => {
            warn!(error = %chain(&error), "list virtual machines to be expunged");
            return;
        }
    };
    let expunged = stream::iter(due).map(|vm| async {
        let uuid = vm.uuid;
        let request = ExpungeVmInstanceRequest { uuid: uuid.clone() };
        let ended = async { result(vms.expunge_vm_instance(request).await?).await };
        match ended.await {
            Ok(_) => info!(vm = uuid, "expunged"),
            Err(status) => warn!(vm = uuid, error = status.message(), "expunge"),
        }
    });
    expunged.buffer_unordered(AT_ONCE).collect::<()>().await;
}
