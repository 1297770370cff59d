//! What is reserved of storages: as much as the volumes on them take.

use cairn_inspect::Suspect;
use cairn_proto::{fault::Fault, meta::Resource as _, storage::v1alpha1::PrimaryStorageCapacity};
use cairn_store::{Row, Store, StoreError, Value};

/// What is left of each place, and what volumes take of it, in one statement, of one place or, for an
/// empty uuid, of all: a reservation changes with the row that it is for.
const RESERVED: &str = "SELECT c.uuid, c.primary_storage_uuid, c.host_uuid, c.total_bytes, \
    c.available_bytes, CAST(COALESCE(SUM(v.size_bytes), 0) AS BIGINT), h.used_before_bytes \
    FROM primary_storage_capacity c \
    LEFT JOIN primary_storage_host h \
    ON h.primary_storage_uuid = c.primary_storage_uuid AND h.host_uuid = c.host_uuid \
    LEFT JOIN volume v \
    ON v.primary_storage_uuid = c.primary_storage_uuid AND v.host_uuid = c.host_uuid \
    WHERE ? IN ('', c.uuid) GROUP BY c.uuid, c.primary_storage_uuid, c.host_uuid, c.total_bytes, c.available_bytes, \
    h.used_before_bytes";

/// What is reserved of one place.
#[derive(Debug)]
struct Reserved {
    uuid: String,
    storage: String,
    host: String,
    total: i64,
    left: i64,
    /// By volumes.
    taken: i64,
    /// By what is not the cloud's, if that is known.
    used_before: Option<i64>,
}

pub(super) async fn check(store: &Store) -> Result<Vec<Suspect>, Fault> {
    let rows = store.rows(RESERVED, vec!["".into()]).await?;
    let reserved = rows.iter().map(Reserved::read);
    let reserved: Vec<_> = reserved.collect::<Result<_, StoreError>>()?;
    Ok(reserved.into_iter().filter_map(Reserved::check).collect())
}

/// Reserves of a place what its volumes take, as they are in this transaction.
pub(super) async fn correct(store: &Store, place: &str) -> Result<(), Fault> {
    let place = place.to_owned();
    let corrected = store.write(move |tx| {
        let place = place.clone();
        Box::pin(async move {
            for row in tx.rows(RESERVED, vec![(&place).into()]).await? {
                let left = Reserved::read(&row)?.right();
                let sql = "UPDATE primary_storage_capacity SET available_bytes = ? WHERE uuid = ?";
                let values = vec![Value::Int(left), (&place).into()];
                tx.execute(sql, values).await?;
            }
            Ok(())
        })
    });
    corrected.await
}

impl Reserved {
    /// What is left if the books are right. A file system that came back smaller than what is on it
    /// has nothing left.
    fn right(&self) -> i64 {
        let reserved = match self.used_before {
            Some(used) => used + self.taken,
            // From before that was noted: only what is lost is seen.
            None => self.taken.max(self.total - self.left),
        };
        self.total - reserved.min(self.total)
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            uuid: row.text(0)?,
            storage: row.text(1)?,
            host: row.opt_text(2)?.unwrap_or_default(),
            total: row.int(3)?,
            left: row.int(4)?,
            taken: row.int(5)?,
            used_before: row.opt_int(6)?,
        })
    }

    fn check(self) -> Option<Suspect> {
        if self.left == self.right() {
            return None;
        }
        let Self {
            uuid,
            storage,
            host,
            total,
            left,
            taken,
            used_before,
        } = self;
        let reserved = total - left;
        let used = used_before.unwrap_or_default();
        let detail = format!(
            "{reserved} of {total} bytes are reserved; the volumes there take {taken}, and {used} \
             were in use before"
        );
        let identity = format!("{storage} host {host}");
        let suspect = Suspect::differs("storage-capacity", identity, detail).repair();
        Some(
            suspect
                .of(PrimaryStorageCapacity::NOUN, uuid)
                .concerns(storage)
                .concerns(host),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_what_is_taken() {
        for (total, left, taken, used_before, right) in [
            (10, 10, 0, Some(0), true),
            (10, 7, 3, Some(0), true),
            (10, 5, 3, Some(2), true),
            (2, 0, 3, Some(1), true),
            (10, 6, 3, Some(0), false),
            (10, 8, 3, Some(0), false),
            (10, 7, 3, Some(2), false),
            // From before that was noted: only what is lost is seen.
            (10, 5, 3, None, true),
            (10, 8, 3, None, false),
        ] {
            let reserved = Reserved {
                uuid: String::new(),
                storage: String::new(),
                host: String::new(),
                total,
                left,
                taken,
                used_before,
            };
            let text = format!("{reserved:?}");
            assert_eq!(reserved.check().is_none(), right, "{text}");
        }
    }
}
