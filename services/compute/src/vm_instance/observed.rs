//! What is seen of virtual machines from outside: a host says which ones run when it connects and
//! whenever it is asked, one that is lost leaves nobody to say.

use std::collections::HashSet;

use cairn_proto::{
    compute::v1alpha1::{VmInstance, VmInstanceState as State},
    fault::Fault,
};
use cairn_store::{Store, Tx, Value};
use cairn_types::{HostUuid, Uuid};
use prost_types::Timestamp;
use tracing::info;

use super::{capacity, state};

/// Takes over what a host that is connected said at `asked` that runs there. Writes only if a row
/// says otherwise.
pub(crate) async fn host_told(
    store: &Store,
    host: HostUuid,
    running: Vec<Uuid>,
    asked: Timestamp,
) -> Result<(), Fault> {
    let said: HashSet<_> = running.iter().map(ToString::to_string).collect();
    let host = host.to_string();
    let sql = "SELECT uuid, state FROM vm_instance \
               WHERE host_uuid = ? AND state IN ('Running', 'Unknown')";
    let rows = store.rows(sql, vec![host.as_str().into()]).await?;
    let mut differs = false;
    for row in &rows {
        differs |= said.contains(&row.text(0)?) != (row.text(1)? == "Running");
    }
    if !differs {
        return Ok(());
    }
    let write = store.write(move |tx| {
        let (host, running) = (host.clone(), running.clone());
        Box::pin(async move { host_connected(tx, &host, &running, asked).await })
    });
    write.await
}

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
                info!(host, vm = vm.uuid, was = ?vm.state(), "does not run any more");
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

/// One that an operation left on its way is found to run or not. Nothing, if it is no longer as it
/// was.
pub(crate) async fn found(tx: &mut Tx, uuid: &str, was: State, is: State) -> Result<(), Fault> {
    let Some(mut vm) = tx.get::<VmInstance>(uuid).await? else {
        return Ok(());
    };
    if vm.state() != was {
        return Ok(());
    }
    // A reboot goes back to what it was from; from there it may have ended.
    if was == State::Rebooting {
        state::enter(tx, &mut vm, State::Running).await?;
    }
    if vm.state() != is {
        state::enter(tx, &mut vm, is).await?;
    }
    if is == State::Stopped {
        capacity::release(tx, &vm).await?;
    }
    Ok(())
}
