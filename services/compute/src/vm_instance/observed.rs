//! What is seen of virtual machines from outside: a host that connects says which ones run, one
//! that is lost leaves nobody to say.

use std::collections::HashSet;

use cairn_proto::{
    compute::v1alpha1::{VmInstance, VmInstanceState as State},
    fault::Fault,
};
use cairn_store::{Tx, Value};
use cairn_types::Uuid;
use prost_types::Timestamp;

use super::{capacity, state};

/// Takes over what a host said at `asked` that runs there. What has changed since is left: its
/// operation knows better.
pub(crate) async fn host_connected(
    tx: &mut Tx,
    host: &str,
    running: &[Uuid],
    asked: Timestamp,
) -> Result<(), Fault> {
    let running: HashSet<_> = running.iter().map(ToString::to_string).collect();
    let settled = "host_uuid = ? AND state IN ('Running', 'Unknown')";
    for mut vm in tx.list::<VmInstance>(settled, vec![host.into()]).await? {
        let changed = vm
            .last_operation_time
            .map(|time| (time.seconds, time.nanos));
        if changed >= Some((asked.seconds, asked.nanos)) {
            continue;
        }
        match (vm.state(), running.contains(&vm.uuid)) {
            (State::Unknown, true) => state::enter(tx, &mut vm, State::Running).await?,
            (_, false) => {
                state::enter(tx, &mut vm, State::Stopped).await?;
                capacity::release(tx, &vm).await?;
            }
            (_, true) => {}
        }
    }
    Ok(())
}

/// Nobody knows any more what runs on a host.
pub(crate) async fn host_lost(tx: &mut Tx, host: &str) -> Result<(), Fault> {
    let running = "host_uuid = ? AND state = 'Running'";
    for mut vm in tx
        .list::<VmInstance>(running, vec![Value::from(host)])
        .await?
    {
        state::enter(tx, &mut vm, State::Unknown).await?;
    }
    Ok(())
}
