//! SQLite: how its connections are set up, and how a statement runs on one. Nothing outside this
//! file knows which database there is.

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
use tokio::sync::Semaphore;

use crate::{Row, StoreError, Value};

/// Up to four texts for each kind of write (see [`crate::Tx`]), a few for each resource, the queries.
const STATEMENT_CACHE: usize = 1024;

/// How many rows may wait for their reader before the connection's thread waits for it.
const ROW_BUFFER: usize = 256;

/// Only a backup or a person with a shell can hold SQLite's own lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
}

/// A statement that failed.
pub(crate) struct Failure {
    pub(crate) error: StoreError,
    /// SQLite may have rolled the whole transaction back: what is sent now could commit alone.
    pub(crate) ends_transaction: bool,
}

/// The connection that writes.
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

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        let closed = self.0.close().await;
        closed.map_err(|cause| failure("close", cause).error)
    }
}

/// The connections that read, opened as they are needed.
///
/// Not sqlx's pool: that one asks a connection for a sign of life whenever it comes back, which
/// costs a second round trip for each read, and SQLite's connections do not die.
#[derive(Debug)]
pub(crate) struct Readers {
    file: PathBuf,
    most: u32,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(crate) fn new(file: PathBuf, most: u32) -> Self {
        let most = most.max(1);
        Self {
            file,
            most,
            permits: Semaphore::new(usize::try_from(most).unwrap_or(1)),
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(StoreError::Closed);
        };
        let mut reader = Reader {
            readers: self,
            connection: self.idle().pop(),
        };
        let connection = match &mut reader.connection {
            Some(connection) => connection,
            none => none.insert(self.connect().await?),
        };
        let answer = run(connection, sql, values).await;
        answer.map(|a| a.rows).map_err(|f| f.error)
    }

    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let connected = options(&self.file).read_only(true).connect().await;
        connected.map_err(|cause| open_error(&self.file, cause))
    }

    /// Waits for those that read now.
    pub(crate) async fn close(&self) {
        if self.permits.acquire_many(self.most).await.is_ok() {
            self.permits.close();
        }
        let idle = mem::take(&mut *self.idle());
        for connection in idle {
            // It only read.
            let _ = connection.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; it comes back also when its reader gives up on the way.
struct Reader<'r> {
    readers: &'r Readers,
    connection: Option<SqliteConnection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.readers.idle().extend(self.connection.take());
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
    let bound = match value {
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
    Failure {
        error,
        ends_transaction: !harmless,
    }
}

fn open_error(file: &Path, cause: sqlx::Error) -> StoreError {
    StoreError::Open {
        file: file.to_owned(),
        cause: Arc::new(cause),
    }
}
