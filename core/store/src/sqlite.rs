//! SQLite: how its connections are set up, and how a statement runs on one.
//!
//! A statement runs on the thread that asks for it and is done when the call returns. So whoever
//! calls decides what may be kept waiting: the writer has a thread for itself, reads that may take
//! long are done on threads that may wait.

mod readers;
mod session;
mod writer;

use std::{mem, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use rusqlite::{
    CachedStatement, Error, OpenFlags, Row as Found,
    ffi::ErrorCode,
    types::{Null, ValueRef},
};

use crate::{
    Row, StoreError, Value,
    database::{Answer, Failure, Harm, Unstorable, check_places, storable},
};

pub(crate) use readers::Readers;
pub(crate) use session::Session;
pub(crate) use writer::run;

pub(crate) const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table'";
pub(crate) const COLUMNS: &str = "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)";

/// A few for each resource, each kind of write, the queries.
const STATEMENT_CACHE: usize = 1024;

/// Only a backup or a person with a shell can hold SQLite's own lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// For one that writes. A transaction of many writes changes some hundred pages; what has no place
/// in memory would be written before the commit, and a second time if it changes again. Each commit
/// that balanced a tree looks through all that is in memory.
/// A checkpoint waits for the disk twice, whatever there is to do; until it comes, the log grows.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 8192";

/// For one whose reads may be many, and of the same moment: what it read is kept until another one
/// writes.
const LONG_READER: &str = "PRAGMA cache_size = -16384";

/// A connection; there is one that writes.
#[derive(Debug)]
pub(crate) struct Connection(rusqlite::Connection);

/// A statement that is ready to run.
pub(crate) struct Statement<'c> {
    connection: &'c rusqlite::Connection,
    statement: CachedStatement<'c>,
}

impl Connection {
    pub(crate) fn open(file: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        Self::with(file, flags, WRITER)
    }

    pub(crate) fn open_brief_reader(file: &Path) -> Result<Self, StoreError> {
        Self::with(file, OpenFlags::SQLITE_OPEN_READ_ONLY, "")
    }

    pub(crate) fn open_long_reader(file: &Path) -> Result<Self, StoreError> {
        Self::with(file, OpenFlags::SQLITE_OPEN_READ_ONLY, LONG_READER)
    }

    fn with(file: &Path, flags: OpenFlags, settings: &str) -> Result<Self, StoreError> {
        let opened = || {
            // A connection is used by one thread at a time: `Connection` is not `Sync`.
            let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = rusqlite::Connection::open_with_flags(file, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            // The tables declare none: services own their tables and may stand on different
            // machines.
            connection.execute_batch("PRAGMA foreign_keys = OFF")?;
            connection.execute_batch(settings)?;
            Ok(connection)
        };
        opened().map(Self).map_err(|cause: Error| StoreError::Open {
            file: file.to_owned(),
            cause: Arc::new(cause),
        })
    }

    /// One statement; values take the places of `?`.
    pub(crate) fn run(&self, sql: &str, values: Vec<Value>) -> Result<Answer, Failure> {
        let mut rows = Vec::new();
        let affected = self.prepare(sql)?.run(sql, values, &mut keep(&mut rows))?;
        Ok(Answer { rows, affected })
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement<'_>, Failure> {
        let statement = self.0.prepare_cached(sql);
        Ok(Statement {
            connection: &self.0,
            statement: statement.map_err(|cause| failure(sql, cause))?,
        })
    }

    /// Any number of statements without values.
    pub(crate) fn script(&self, sql: &str) -> Result<(), Failure> {
        let done = self.0.execute_batch(sql);
        done.map_err(|cause| failure(sql, cause))
    }

    /// Whether there is a transaction now.
    pub(crate) fn in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }

    /// How long a statement may wait for a lock that another process holds.
    pub(crate) fn wait_for_locks(&self, wait: bool) {
        let limit = if wait { BUSY_TIMEOUT } else { Duration::ZERO };
        // It says no only to what is no connection.
        let _ = self.0.busy_timeout(limit);
    }
}

impl Statement<'_> {
    /// Whether it changes nothing.
    pub(crate) fn reads(&self) -> bool {
        self.statement.readonly()
    }

    /// Runs it, and lends out each row until that breaks off. What is left in a row is used again
    /// for the next. Returns how many rows it changed.
    pub(crate) fn run(
        mut self,
        sql: &str,
        values: Vec<Value>,
        lend: &mut dyn FnMut(&mut Row) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        self.bind(values).map_err(|cause| refused(sql, cause))?;
        let before = self.connection.total_changes();
        self.rows(lend).map_err(|cause| failure(sql, cause))?;
        Ok(self.connection.total_changes() - before)
    }

    fn bind(&mut self, values: Vec<Value>) -> Result<(), Unstorable> {
        check_places(self.statement.parameter_count(), values.len())?;
        for (place, value) in (1..).zip(values) {
            let bound = match storable(value)? {
                Value::Null => self.statement.raw_bind_parameter(place, Null),
                Value::Text(text) => self.statement.raw_bind_parameter(place, text),
                Value::Int(int) => self.statement.raw_bind_parameter(place, int),
                Value::Double(double) => self.statement.raw_bind_parameter(place, double),
                Value::Bytes(bytes) => self.statement.raw_bind_parameter(place, &bytes[..]),
            };
            bound.map_err(|cause| Unstorable::new(cause.to_string()))?;
        }
        Ok(())
    }

    fn rows(&mut self, lend: &mut dyn FnMut(&mut Row) -> ControlFlow<()>) -> Result<(), Error> {
        let columns = self.statement.column_count();
        let mut found = self.statement.raw_query();
        let mut row = Row::default();
        while let Some(found) = found.next()? {
            read(found, row.of_columns(columns))?;
            if lend(&mut row).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Takes rows out of the hands of a statement, all of them.
pub(crate) fn keep(rows: &mut Vec<Row>) -> impl FnMut(&mut Row) -> ControlFlow<()> {
    |row| {
        rows.push(mem::take(row));
        ControlFlow::Continue(())
    }
}

/// By what is stored, not by what the column declares: SQLite keeps a type for each value. A text
/// takes the place of a text without new memory.
fn read(found: &Found<'_>, values: &mut [Value]) -> Result<(), Error> {
    for (column, value) in values.iter_mut().enumerate() {
        *value = match found.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(int) => Value::Int(int),
            ValueRef::Real(double) => Value::Double(double),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text);
                let text = text.map_err(|cause| Error::Utf8Error(column, cause))?;
                if let Value::Text(before) = value {
                    before.clear();
                    before.push_str(text);
                    continue;
                }
                Value::Text(text.to_owned())
            }
            ValueRef::Blob(blob) => Value::Bytes(Bytes::copy_from_slice(blob)),
        };
    }
    Ok(())
}

fn failure(sql: &str, cause: Error) -> Failure {
    // https://www.sqlite.org/rescode.html
    const UNIQUE: [i32; 3] = [1555, 2067, 2579];
    let code = cause.sqlite_error().copied();
    let harmless = match code.map(|error| error.code) {
        Some(
            ErrorCode::Unknown
            | ErrorCode::TooBig
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange,
        ) => true,
        Some(_) => false,
        // What rusqlite itself has to say, of a text or of what it cannot read.
        None => true,
    };
    let unique = code.is_some_and(|error| UNIQUE.contains(&error.extended_code));
    let error = match &cause {
        Error::SqliteFailure(_, Some(words)) if unique => StoreError::AlreadyExists {
            what: "a row".to_owned(),
            constraint: words.clone(),
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

fn refused(sql: &str, cause: Unstorable) -> Failure {
    Failure {
        error: StoreError::Statement {
            sql: sql.to_owned(),
            cause: Arc::new(cause),
        },
        harm: Harm::Statement,
    }
}
