//! SQLite: how its connections are set up, and how a statement runs on one.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, Either,
    Executor as _, Row as _, Sqlite, SqliteConnection, TypeInfo as _, ValueRef as _,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous,
        SqliteValueRef,
    },
};

use crate::{
    Row, StoreError, Value,
    database::{Answer, Failure, Harm, storable},
};

pub(crate) const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table'";
pub(crate) const COLUMNS: &str = "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)";

/// Up to four texts for each kind of write (see [`crate::Tx`]), a few for each resource, the queries.
const STATEMENT_CACHE: usize = 1024;

/// How many rows may wait for their reader before the connection's thread waits for it.
const ROW_BUFFER: usize = 256;

/// Only a backup or a person with a shell can hold SQLite's own lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection; there is one that writes.
#[derive(Debug)]
pub(crate) struct Connection(SqliteConnection);

impl Connection {
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = options(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = options.connect().await;
        connection
            .map(Self)
            .map_err(|cause| open_error(file, cause))
    }

    pub(crate) async fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, Failure> {
        run(&mut self.0, sql, values).await
    }

    pub(crate) async fn open_reader(file: &Path) -> Result<Self, StoreError> {
        let connection = options(file).read_only(true).connect().await;
        connection
            .map(Self)
            .map_err(|cause| open_error(file, cause))
    }

    /// All is committed; an error here loses nothing.
    pub(crate) async fn close(self) {
        let _ = self.0.close().await;
    }
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .row_buffer_size(ROW_BUFFER)
        // The tables declare none: services own their tables and may stand on different machines.
        .foreign_keys(false)
        .disable_statement_logging()
}

async fn run(
    connection: &mut SqliteConnection,
    sql: &str,
    values: Vec<Value>,
) -> Result<Answer, Failure> {
    let fail = |cause| failure(sql, cause);
    let mut arguments = SqliteArguments::default();
    for value in values {
        bind(&mut arguments, value).map_err(fail)?;
    }
    let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
    let mut stream = connection.fetch_many(query);
    let mut answer = Answer::default();
    while let Some(item) = stream.next().await {
        match item.map_err(fail)? {
            Either::Right(row) => answer.rows.push(read(&row).map_err(fail)?),
            // Of several statements in one text only the last one's count: SQLite repeats it
            // for those that change nothing.
            Either::Left(done) => answer.affected = done.rows_affected(),
        }
    }
    Ok(answer)
}

fn bind(arguments: &mut SqliteArguments, value: Value) -> Result<(), sqlx::Error> {
    let bound = match storable(value)? {
        Value::Null => arguments.add(None::<i64>),
        Value::Text(text) => arguments.add(text),
        Value::Int(int) => arguments.add(int),
        Value::Double(double) => arguments.add(double),
        Value::Bytes(bytes) => arguments.add(Vec::from(bytes)),
    };
    bound.map_err(sqlx::Error::Encode)
}

fn read(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let columns = (0..row.len()).map(|column| read_value(row.try_get_raw(column)?));
    columns.collect::<Result<_, _>>().map(Row::new)
}

/// By what is stored, not by what the column declares: SQLite keeps a type for each value.
fn read_value(raw: SqliteValueRef<'_>) -> Result<Value, sqlx::Error> {
    fn decode<'r, T: Decode<'r, Sqlite>>(raw: SqliteValueRef<'r>) -> Result<T, sqlx::Error> {
        T::decode(raw).map_err(sqlx::Error::Decode)
    }
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let stored = raw.type_info().into_owned();
    match stored.name() {
        "TEXT" => decode(raw).map(Value::Text),
        "REAL" => decode(raw).map(Value::Double),
        "BLOB" => decode::<Vec<u8>>(raw).map(|bytes| Value::Bytes(Bytes::from(bytes))),
        _ => decode(raw).map(Value::Int),
    }
}

fn failure(sql: &str, cause: sqlx::Error) -> Failure {
    // https://www.sqlite.org/rescode.html: the low byte of the extended code.
    const SQL_ERROR: i32 = 1;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const OUT_OF_RANGE: i32 = 25;
    let code = cause.as_database_error().and_then(|error| error.code());
    let code = code.and_then(|code| code.parse::<i32>().ok());
    let harmless = match code.map(|code| code & 0xff) {
        Some(SQL_ERROR | TOO_BIG | CONSTRAINT | MISMATCH | OUT_OF_RANGE) => true,
        Some(_) => false,
        None => matches!(cause, sqlx::Error::Encode(_) | sqlx::Error::Decode(_)),
    };
    let error = match cause.as_database_error() {
        Some(error) if error.is_unique_violation() => StoreError::AlreadyExists {
            what: "a row".to_owned(),
            constraint: error.message().to_owned(),
        },
        _ => StoreError::Statement {
            sql: sql.to_owned(),
            cause: Arc::new(cause),
        },
    };
    let harm = match harmless {
        true => Harm::Statement,
        false => Harm::Transaction,
    };
    Failure { error, harm }
}

fn open_error(file: &Path, cause: sqlx::Error) -> StoreError {
    StoreError::Open {
        file: file.to_owned(),
        cause: Arc::new(cause),
    }
}
