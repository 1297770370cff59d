//! What is going: resources that a cascade has begun to delete, and those that it holds.
//!
//! From the commit that marks them on, no new row can refer to what is going, and those that go
//! together do not hold each other back: so what was planned stays all that there is to delete.
//! References that are said to be cleared with what they refer to do not hold it back either; they
//! become NULL in the transaction that deletes it. What is held stays: the mark keeps other plans
//! away, and tells its service not to start it.

use std::sync::Arc;

use crate::{Migration, StoreError, Tx, Value};

/// The store's own table, made before those of services.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "store",
        number: 1,
        name: "going",
        sql: "CREATE TABLE going (
    resource_uuid TEXT NOT NULL PRIMARY KEY,
    plan_uuid TEXT NOT NULL
);
CREATE INDEX going_plan_uuid ON going (plan_uuid);",
    },
    Migration {
        service: "store",
        number: 2,
        name: "held",
        sql: "ALTER TABLE going ADD COLUMN held BIGINT NOT NULL DEFAULT 0;",
    },
];

/// How many marks one statement looks up or makes.
const AT_ONCE: usize = 500;

impl Tx {
    /// Marks resources as going, for a plan. A uuid that stands there twice counts once.
    ///
    /// # Errors
    /// [`StoreError::GoingAlready`] if another plan has one; nothing of the write may be kept then.
    pub async fn mark_going(&mut self, plan: &str, uuids: &[&str]) -> Result<(), StoreError> {
        self.mark(plan, uuids, false).await
    }

    /// Marks resources as held, for a plan: they stay, and no other plan has them meanwhile.
    ///
    /// # Errors
    /// As [`mark_going`](Self::mark_going).
    pub async fn mark_held(&mut self, plan: &str, uuids: &[&str]) -> Result<(), StoreError> {
        self.mark(plan, uuids, true).await
    }

    async fn mark(&mut self, plan: &str, uuids: &[&str], held: bool) -> Result<(), StoreError> {
        for uuids in uuids.chunks(AT_ONCE) {
            let marks = vec!["?"; uuids.len()].join(", ");
            let sql = format!(
                "SELECT resource_uuid, plan_uuid FROM going WHERE resource_uuid IN ({marks}) \
                 AND plan_uuid <> ? LIMIT 1"
            );
            let mut values: Vec<_> = uuids.iter().map(|uuid| Value::from(*uuid)).collect();
            values.push(plan.into());
            if let Some(row) = self.rows(&sql, values).await?.first() {
                return Err(StoreError::GoingAlready {
                    uuid: row.text(0)?,
                    plan: row.text(1)?,
                });
            }
            let rows = vec!["(?, ?, ?)"; uuids.len()].join(", ");
            let sql = format!(
                "INSERT INTO going (resource_uuid, plan_uuid, held) VALUES {rows} \
                 ON CONFLICT DO NOTHING"
            );
            let values = uuids.iter();
            let values = values.flat_map(|uuid| [(*uuid).into(), plan.into(), held.into()]);
            self.execute(&sql, values.collect()).await?;
        }
        Ok(())
    }

    /// Takes the marks of a plan away.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clear_going(&mut self, plan: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM going WHERE plan_uuid = ?";
        self.execute(sql, vec![plan.into()]).await.map(drop)
    }

    /// The plan by which a resource is going or held, if it is.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn going(&mut self, uuid: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT plan_uuid FROM going WHERE resource_uuid = ?";
        let rows = self.rows(sql, vec![uuid.into()]).await?;
        rows.first().map(|row| row.text(0)).transpose()
    }

    /// Has the references to a resource that are cleared with it become NULL.
    pub(crate) async fn clear_references(
        &mut self,
        noun: &str,
        uuid: &str,
    ) -> Result<(), StoreError> {
        let tables = Arc::clone(&self.tables);
        for sql in tables.clears(noun) {
            self.execute(sql, vec![uuid.into()]).await?;
        }
        Ok(())
    }
}
