//! What is going: resources that a cascade has begun to delete.
//!
//! From the commit that marks them on, no new row can refer to them, and those that go together do
//! not hold each other back: so what was planned stays all that there is to delete.

use crate::{Migration, StoreError, Tx, Value};

/// The store's own table, made before those of services.
pub(crate) const MIGRATION: Migration = Migration {
    service: "store",
    number: 1,
    name: "going",
    sql: "CREATE TABLE going (
    resource_uuid TEXT NOT NULL PRIMARY KEY,
    plan_uuid TEXT NOT NULL
);
CREATE INDEX going_plan_uuid ON going (plan_uuid);",
};

/// How many marks one statement looks up or makes.
const AT_ONCE: usize = 500;

impl Tx {
    /// Marks resources as going, for a plan. A uuid that stands there twice counts once.
    ///
    /// # Errors
    /// [`StoreError::GoingAlready`] if one is going already; nothing of the write may be kept then.
    pub async fn mark_going(&mut self, plan: &str, uuids: &[&str]) -> Result<(), StoreError> {
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
            let rows = vec!["(?, ?)"; uuids.len()].join(", ");
            let sql = format!(
                "INSERT INTO going (resource_uuid, plan_uuid) VALUES {rows} ON CONFLICT DO NOTHING"
            );
            let values = uuids
                .iter()
                .flat_map(|uuid| [Value::from(*uuid), plan.into()]);
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

    /// The plan by which a resource is going, if it is.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn going(&mut self, uuid: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT plan_uuid FROM going WHERE resource_uuid = ?";
        let rows = self.rows(sql, vec![uuid.into()]).await?;
        rows.first().map(|row| row.text(0)).transpose()
    }
}
