//! What is reserved of hosts: as much as the virtual machines on them take.

use cairn_inspect::Suspect;
use cairn_proto::{compute::v1alpha1::Host, fault::Fault, meta::Resource as _};
use cairn_store::{Row, Store, StoreError, Value};

use crate::host::connect::VIRTUAL_CPUS_PER_CPU;

/// What each host has left, and what virtual machines take of it, in one statement, of one host or, for an empty
/// uuid, of all: a reservation changes with the row that it is for. One that is being destroyed may have been stopped before.
const RESERVED: &str = "SELECT h.uuid, h.memory_bytes, h.available_memory_bytes, h.cpu_count, \
    h.available_cpu_count, \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed', 'Destroying') \
    THEN v.memory_bytes ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed') THEN v.memory_bytes ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed', 'Destroying') \
    THEN v.cpu_count ELSE 0 END), 0) AS BIGINT), \
    CAST(COALESCE(SUM(CASE WHEN v.state NOT IN ('Stopped', 'Destroyed') THEN v.cpu_count ELSE 0 END), 0) AS BIGINT) \
    FROM host h LEFT JOIN vm_instance v ON v.host_uuid = h.uuid WHERE ? IN ('', h.uuid) \
    GROUP BY h.uuid, h.memory_bytes, h.available_memory_bytes, h.cpu_count, h.available_cpu_count";

/// Where more or less is reserved.
pub(super) async fn check(store: &Store) -> Result<Vec<Suspect>, Fault> {
    let mut suspects = Vec::new();
    for row in store.rows(RESERVED, vec!["".into()]).await? {
        suspects.extend(Reserved::read(&row)?.into_iter().flat_map(Reserved::check));
    }
    Ok(suspects)
}

/// Reserves of a host what its virtual machines take, as they are in this transaction.
pub(super) async fn correct(store: &Store, host: &str) -> Result<(), Fault> {
    let host = host.to_owned();
    let corrected = store.write(move |tx| {
        let host = host.clone();
        Box::pin(async move {
            for row in tx.rows(RESERVED, vec![(&host).into()]).await? {
                let [memory, cpus] = Reserved::read(&row)?;
                let sql = "UPDATE host SET available_memory_bytes = ?, available_cpu_count = ? \
                           WHERE uuid = ?";
                let left = [memory.right(), cpus.right()].map(Value::Int);
                let values = left.into_iter().chain([(&host).into()]);
                tx.execute(sql, values.collect()).await?;
            }
            Ok(())
        })
    });
    corrected.await
}

/// What is reserved of one thing of a host.
#[derive(Debug)]
struct Reserved {
    host: String,
    what: &'static str,
    total: i64,
    left: i64,
    /// What virtual machines surely take, and what they take at most.
    taken: (i64, i64),
}

impl Reserved {
    /// Memory and processors of a row of [`RESERVED`].
    fn read(row: &Row) -> Result<[Self; 2], StoreError> {
        let memory = Self {
            host: row.text(0)?,
            what: "memoryBytes",
            total: row.int(1)?,
            left: row.int(2)?,
            taken: (row.int(5)?, row.int(6)?),
        };
        let cpus = Self {
            host: row.text(0)?,
            what: "cpuCount",
            total: row.int(3)?.saturating_mul(VIRTUAL_CPUS_PER_CPU.into()),
            left: row.int(4)?,
            taken: (row.int(7)?, row.int(8)?),
        };
        Ok([memory, cpus])
    }

    /// What is left if the books are right: what there is already, where that may be. A host that
    /// came back smaller than what runs on it has nothing left.
    fn right(&self) -> i64 {
        let (least, most) = self.taken;
        let reserved = self.total - self.left;
        self.total - reserved.clamp(least.min(self.total), most.min(self.total))
    }

    fn check(self) -> Option<Suspect> {
        let right = self.right();
        let Self {
            host,
            what,
            total,
            left,
            taken: (least, _),
        } = self;
        let reserved = total - left;
        if left == right {
            return None;
        }
        let detail = format!(
            "{reserved} of {total} are reserved, and the virtual machines of the host take {least}"
        );
        let suspect = Suspect::differs("host-capacity", what, detail).repair();
        Some(suspect.of(Host::NOUN, host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_what_is_taken() {
        let check = |total, left, taken, right: bool| {
            let reserved = Reserved {
                host: "here".to_owned(),
                what: "memoryBytes",
                total,
                left,
                taken,
            };
            let text = format!("{reserved:?}");
            assert_eq!(reserved.check().is_none(), right, "{text}");
        };
        check(10, 10, (0, 0), true);
        check(10, 7, (3, 3), true);
        // One is being destroyed, and may hold its part.
        check(10, 7, (0, 3), true);
        check(10, 10, (0, 3), true);
        // The host came back smaller.
        check(2, 0, (3, 3), true);
        check(10, 6, (3, 3), false);
        check(10, 8, (3, 3), false);
        check(10, 6, (0, 3), false);
        check(10, 11, (0, 0), false);
    }
}
