//! Changes of the schema, in order, each once.

use std::{
    collections::{BTreeMap, HashMap},
    time::{SystemTime, UNIX_EPOCH},
};

use cairn_types::Uuid;

use crate::{
    StoreError, Value,
    database::{Connection, Failure},
};

/// One change of the schema. Once released it never changes; a mistake is put right by the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The service that owns the tables.
    pub service: &'static str,
    /// Its place among the service's migrations, from 1.
    pub number: u32,
    /// What it does: `host_capacity`.
    pub name: &'static str,
    /// The statements, in the subset that SQLite and PostgreSQL both take.
    pub sql: &'static str,
}

impl Migration {
    fn error(&self, problem: &str, cause: Option<StoreError>) -> StoreError {
        error(self.service, self.number.into(), self.name, problem, cause)
    }

    fn checksum(&self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.sql.as_bytes()).to_string()
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migration (
  service TEXT NOT NULL,
  number BIGINT NOT NULL,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (service, number)
)";

/// What the database has of a migration.
struct Applied {
    name: String,
    checksum: String,
}

/// Applies those that the database does not have yet.
pub(crate) async fn migrate(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    in_sequence(migrations)?;
    let failed = |failure: Failure| failure.error;
    connection.script(TABLE).await.map_err(failed)?;
    let sql = "SELECT service, number, name, checksum FROM migration";
    let answer = connection.run(sql, Vec::new()).await.map_err(failed)?;
    let mut applied = BTreeMap::new();
    for row in answer.rows {
        let (name, checksum) = (row.text(2)?, row.text(3)?);
        applied.insert((row.text(0)?, row.int(1)?), Applied { name, checksum });
    }
    let mut missing = Vec::new();
    for migration in migrations {
        match applied.remove(&(migration.service.to_owned(), migration.number.into())) {
            None => missing.push(migration),
            Some(there) if there.checksum == migration.checksum() => {}
            Some(_) => {
                let problem = "it was changed after it was applied to this database; put it back \
                               and add a new one";
                return Err(migration.error(problem, None));
            }
        }
    }
    if let Some(((service, number), there)) = applied.pop_first() {
        let problem = "it is in this database, but this program does not know it; run the newer \
                       program that applied it";
        return Err(error(&service, number, &there.name, problem, None));
    }
    for migration in missing {
        let applied = apply(connection, migration).await;
        if let Err(cause) = applied {
            // It may be over already.
            let _ = connection.script("ROLLBACK").await;
            return Err(migration.error("it failed and was rolled back", Some(cause)));
        }
    }
    Ok(())
}

async fn apply(connection: &mut Connection, migration: &Migration) -> Result<(), StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_micros());
    let values = vec![
        Value::from(migration.service),
        Value::from(migration.number),
        Value::from(migration.name),
        Value::from(migration.checksum()),
        Value::from(i64::try_from(now).unwrap_or(i64::MAX)),
    ];
    let record = "INSERT INTO migration (service, number, name, checksum, time) \
                  VALUES (?, ?, ?, ?, ?)";
    let failed = |failure: Failure| failure.error;
    let begin = connection.begin();
    connection.script(begin).await.map_err(failed)?;
    connection.migration(migration.sql).await.map_err(failed)?;
    connection.run(record, values).await.map_err(failed)?;
    connection.script("COMMIT").await.map_err(failed)?;
    Ok(())
}

/// Each service's migrations are numbered from 1, without gaps.
fn in_sequence(migrations: &[Migration]) -> Result<(), StoreError> {
    let mut last: HashMap<&str, u32> = HashMap::new();
    for migration in migrations {
        let last = last.entry(migration.service).or_default();
        *last += 1;
        if migration.number != *last {
            return Err(migration.error(&format!("its number should be {last}"), None));
        }
    }
    Ok(())
}

fn error(
    service: &str,
    number: i64,
    name: &str,
    problem: &str,
    cause: Option<StoreError>,
) -> StoreError {
    StoreError::Migration {
        migration: format!("{service} {number} {name}"),
        problem: problem.to_owned(),
        cause: cause.map(Box::new),
    }
}
