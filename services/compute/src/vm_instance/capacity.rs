//! What virtual machines take of their hosts: reserved and given back by conditional updates, so
//! that no queue has to guard it and the books are exact.

use cairn_proto::{compute::v1alpha1::VmInstance, fault::Fault};
use cairn_store::{Tx, Value};

/// Takes processors and memory of a host, if it is in use and has them.
pub(super) async fn reserve(
    tx: &mut Tx,
    host: &str,
    cpus: u32,
    memory: u64,
) -> Result<bool, Fault> {
    let (cpus, memory) = (i64::from(cpus), i64::try_from(memory).unwrap_or(i64::MAX));
    let changed = tx
        .execute(
            "UPDATE host SET available_memory_bytes = available_memory_bytes - ?, \
             available_cpu_count = available_cpu_count - ? \
             WHERE uuid = ? AND state = 'Enabled' AND status = 'Connected' \
             AND available_memory_bytes >= ? AND available_cpu_count >= ? \
             AND NOT EXISTS (SELECT 1 FROM going WHERE resource_uuid = host.uuid)",
            vec![
                Value::Int(memory),
                Value::Int(cpus),
                host.into(),
                Value::Int(memory),
                Value::Int(cpus),
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Gives back what a virtual machine holds of its host.
pub(super) async fn release(tx: &mut Tx, vm: &VmInstance) -> Result<(), Fault> {
    let Some(host) = &vm.host_uuid else {
        return Ok(());
    };
    tx.execute(
        "UPDATE host SET available_memory_bytes = available_memory_bytes + ?, \
         available_cpu_count = available_cpu_count + ? WHERE uuid = ?",
        vec![
            Value::Int(i64::try_from(vm.memory_bytes).unwrap_or(i64::MAX)),
            Value::Int(vm.cpu_count.into()),
            host.as_str().into(),
        ],
    )
    .await?;
    Ok(())
}

/// How many virtual machines are on a host that are not stopped.
pub(crate) async fn count_on_host(tx: &mut Tx, host: &str) -> Result<i64, Fault> {
    let sql = "SELECT COUNT(*) FROM vm_instance WHERE host_uuid = ? \
               AND state NOT IN ('Stopped', 'Destroyed')";
    let rows = tx.rows(sql, vec![host.into()]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.int(0))?)
}
