//! One connection to either database, and what a statement on it gives. Beside this file only
//! `sqlite` and `postgres` know which database there is.

use crate::{Row, StoreError, Value, postgres, sqlite};

/// Statements about the transaction itself, which closures leave to the store.
const CONTROL: [&str; 8] = [
    "abort",
    "begin",
    "commit",
    "end",
    "release",
    "rollback",
    "savepoint",
    "start",
];

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
}

/// A statement that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StoreError,
    pub(crate) harm: Harm,
}

/// What else is lost with a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Nothing that the database could not tell itself.
    Statement,
    /// The whole transaction may be rolled back: what is sent now could commit alone.
    Transaction,
    /// The transaction met another one; run again it may succeed.
    Conflict,
    /// The connection.
    Connection,
}

/// A connection on which the schema is brought up to date: before anything else is done, so a
/// thread may wait for it.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Connection {
    /// One statement; values take the places of `?`.
    pub(crate) async fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, Failure> {
        match self {
            Self::Sqlite(connection) => connection.run(sql, values),
            Self::Postgres(connection) => connection.run(sql, values).await,
        }
    }

    /// Any number of statements without values.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<(), Failure> {
        match self {
            Self::Sqlite(connection) => connection.script(sql),
            Self::Postgres(connection) => connection.script(sql).await.map(drop),
        }
    }

    /// The statements of a migration.
    pub(crate) async fn migration(&mut self, sql: &str) -> Result<(), Failure> {
        match self {
            Self::Sqlite(_) => self.script(sql).await,
            Self::Postgres(connection) => {
                // Queries want the rows without a time first, as SQLite has them; it knows no other
                // order of an index, and no word for this one.
                let sql = sql.replace("(create_time, uuid)", "(create_time NULLS FIRST, uuid)");
                connection.script(&sql).await.map(drop)
            }
        }
    }

    /// Begins a transaction that may write.
    pub(crate) fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN",
        }
    }

    /// All that it did is committed: an error loses nothing.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(connection) => drop(connection),
            Self::Postgres(connection) => connection.close().await,
        }
    }
}

/// How each database tells what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// The names of all tables.
    pub(crate) fn tables(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::TABLES,
            Self::Postgres => postgres::TABLES,
        }
    }

    /// The columns of the table that takes the place of `?`: name, type as a migration writes it,
    /// whether it is NOT NULL, whether it is in the primary key.
    pub(crate) fn columns(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::COLUMNS,
            Self::Postgres => postgres::COLUMNS,
        }
    }
}

/// The value as both databases keep it, or why one of them would not.
pub(crate) fn storable(value: Value) -> Result<Value, Unstorable> {
    let refused = |problem: &str| Unstorable(problem.to_owned());
    match value {
        // PostgreSQL refuses it.
        Value::Text(text) if text.contains('\0') => {
            Err(refused("a text contains a zero character"))
        }
        // SQLite would store NULL.
        Value::Double(double) if double.is_nan() => Err(refused("a double is not a number")),
        // SQLite stores it as the integer 0.
        Value::Double(0.0) => Ok(Value::Double(0.0)),
        value => Ok(value),
    }
}

/// Why the values of a statement are not taken.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unstorable(String);

impl Unstorable {
    pub(crate) fn new(problem: String) -> Self {
        Self(problem)
    }
}

/// Each place of a statement gets a value.
pub(crate) fn check_places(places: usize, values: usize) -> Result<(), Unstorable> {
    if places == values {
        return Ok(());
    }
    Err(Unstorable(format!("{values} values for {places} places")))
}

/// Whether a statement would begin or end a transaction, or a part of one.
pub(crate) fn is_control(sql: &str) -> bool {
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).next();
    let word = word.unwrap_or_default();
    CONTROL.iter().any(|own| own.eq_ignore_ascii_case(word))
}
