//! PostgreSQL: how its connections are set up, and how a statement runs on one.
//!
//! The database decides of what type each value of a statement is, and values are sent as that
//! type. So NULL needs no type, and nothing that is sent can be taken for something else.

mod config;
mod owner;
mod readers;
mod session;
mod sql;
mod writer;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, Either, Encode,
    Executor as _, PgConnection, Postgres, Row as _, Statement as _, Type, TypeInfo as _,
    ValueRef as _,
    encode::IsNull,
    error::BoxDynError,
    postgres::{
        PgArgumentBuffer, PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity,
        PgTypeInfo, PgValueRef,
    },
};

use crate::{
    Row, StoreError, Value,
    database::{Answer, Failure, Harm, check_places, storable},
};

pub use config::{PostgresConfig, WrongConfig};
pub(crate) use owner::Owner;
pub(crate) use readers::Readers;
pub(crate) use session::Session;
pub(crate) use writer::run;

pub(crate) const TABLES: &str = "SELECT c.relname::text FROM pg_class c WHERE c.relkind IN ('r', 'p') \
     AND c.relnamespace = current_schema()::regnamespace";

pub(crate) const COLUMNS: &str = "SELECT a.attname::text, upper(format_type(a.atttypid, a.atttypmod)), a.attnotnull, \
     EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary \
     AND a.attnum = ANY (i.indkey)) \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
     WHERE c.relname = ?::text AND c.relnamespace = current_schema()::regnamespace \
     AND a.attnum > 0 AND NOT a.attisdropped";

/// Up to four texts for each kind of write, a few for each resource, the queries.
const STATEMENT_CACHE: usize = 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    connection: PgConnection,
    /// Statements as the database wants them, by how they are written.
    texts: HashMap<Box<str>, Arc<str>>,
}

impl Connection {
    /// A connection that may write.
    pub(crate) async fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        Self::with(config, &[]).await
    }

    /// A connection for the transactions of writes. It reads by indexes where it can: what a
    /// serializable transaction reads of an index is less to conflict with than a whole table.
    pub(crate) async fn open_writer(config: &PostgresConfig) -> Result<Self, StoreError> {
        let settings = [
            // A commit that is answered is on disk.
            ("synchronous_commit", "on"),
            ("enable_seqscan", "off"),
            // Without that a table that has to be scanned costs so much that it would be compiled.
            ("jit", "off"),
            // What a process leaves that is gone without a word.
            ("idle_in_transaction_session_timeout", "60s"),
        ];
        Self::with(config, &settings).await
    }

    pub(crate) async fn open_reader(config: &PostgresConfig) -> Result<Self, StoreError> {
        Self::with(config, &[("default_transaction_read_only", "on")]).await
    }

    async fn with(config: &PostgresConfig, settings: &[(&str, &str)]) -> Result<Self, StoreError> {
        let options = PgConnectOptions::clone(&config.options);
        let options = options
            .statement_cache_capacity(STATEMENT_CACHE)
            .options(settings.iter().copied())
            .disable_statement_logging();
        let connected = tokio::time::timeout(config.connect_limit, options.connect()).await;
        let connected = connected.unwrap_or_else(|_| {
            let limit = config.connect_limit.as_secs();
            let problem = format!("no answer in {limit} s");
            Err(sqlx::Error::Io(std::io::Error::other(problem)))
        });
        match connected {
            Ok(connection) => Ok(Self {
                connection,
                texts: HashMap::new(),
            }),
            Err(cause) => Err(StoreError::Connect {
                database: config.name.clone(),
                cause: Arc::new(cause),
            }),
        }
    }

    /// One statement; values take the places of `?`.
    pub(crate) async fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, Failure> {
        let text = self.text(sql);
        let answer = self.answer(text, values).await;
        answer.map_err(|cause| failure(sql, cause))
    }

    fn text(&mut self, sql: &str) -> Arc<str> {
        if let Some(text) = self.texts.get(sql) {
            return Arc::clone(text);
        }
        if self.texts.len() >= STATEMENT_CACHE {
            self.texts.clear();
        }
        let text: Arc<str> = sql::translate(sql).into();
        self.texts.insert(sql.into(), Arc::clone(&text));
        text
    }

    async fn answer(&mut self, sql: Arc<str>, values: Vec<Value>) -> Result<Answer, sqlx::Error> {
        use sqlx::SqlSafeStr as _;
        let sql = AssertSqlSafe(sql).into_sql_str();
        // A statement that is known costs no round trip here.
        let statement = self.connection.prepare_with(sql, &[]).await?;
        let types = match statement.parameters() {
            Some(Either::Left(types)) => types,
            _ => &[],
        };
        let refused = |cause| sqlx::Error::Encode(Box::new(cause));
        check_places(types.len(), values.len()).map_err(refused)?;
        let mut arguments = PgArguments::default();
        for (place, (value, wanted)) in values.into_iter().zip(types).enumerate() {
            let bound = Bound {
                value: storable(value).map_err(refused)?,
                place,
                wanted,
            };
            arguments.add(bound).map_err(sqlx::Error::Encode)?;
        }
        let mut stream = self.connection.fetch_many(statement.query_with(arguments));
        let mut answer = Answer::default();
        while let Some(item) = stream.next().await {
            match item? {
                Either::Right(row) => answer.rows.push(read(&row)?),
                Either::Left(done) => answer.affected = done.rows_affected(),
            }
        }
        Ok(answer)
    }

    /// Any number of statements without values, in one round trip; the rows of all as texts.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        let rows: Result<Vec<PgRow>, _> = script.fetch(&mut self.connection).try_collect().await;
        let rows = rows.and_then(|rows| rows.iter().map(read_texts).collect());
        rows.map_err(|cause| failure(sql, cause))
    }

    pub(crate) async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// A value that is to be sent as the type that its place wants.
struct Bound<'w> {
    value: Value,
    place: usize,
    wanted: &'w PgTypeInfo,
}

impl Type<Postgres> for Bound<'_> {
    fn type_info() -> PgTypeInfo {
        // The statement is prepared; nobody asks.
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Bound<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let wanted = self.wanted.name();
        match (&self.value, wanted) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Text(text), "TEXT" | "VARCHAR" | "NAME") => {
                buffer.extend_from_slice(text.as_bytes());
            }
            (Value::Bytes(bytes), "BYTEA") => buffer.extend_from_slice(bytes),
            (Value::Int(int), "INT8") => buffer.extend_from_slice(&int.to_be_bytes()),
            (Value::Int(int), "INT4") => {
                buffer.extend_from_slice(&i32::try_from(*int)?.to_be_bytes());
            }
            (Value::Double(double), "FLOAT8") => buffer.extend_from_slice(&double.to_be_bytes()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "SQLite does the same to an integer in a column of doubles"
            )]
            (Value::Int(int), "FLOAT8") => buffer.extend_from_slice(&(*int as f64).to_be_bytes()),
            (value, _) => {
                let place = self.place + 1;
                let is = value.kind();
                return Err(format!("value {place} is {is}; its place wants {wanted}").into());
            }
        }
        Ok(IsNull::No)
    }
}

fn read(row: &PgRow) -> Result<Row, sqlx::Error> {
    let columns = (0..row.len()).map(|column| read_value(row.try_get_raw(column)?));
    columns.collect::<Result<_, _>>().map(Row::new)
}

fn read_value(raw: PgValueRef<'_>) -> Result<Value, sqlx::Error> {
    fn decode<'r, T: Decode<'r, Postgres>>(raw: PgValueRef<'r>) -> Result<T, sqlx::Error> {
        T::decode(raw).map_err(sqlx::Error::Decode)
    }
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let stored = raw.type_info().into_owned();
    match stored.name() {
        "TEXT" | "VARCHAR" | "NAME" => decode(raw).map(Value::Text),
        "INT8" => decode(raw).map(Value::Int),
        "INT4" => decode::<i32>(raw).map(|int| Value::Int(int.into())),
        "INT2" => decode::<i16>(raw).map(|int| Value::Int(int.into())),
        "BOOL" => decode::<bool>(raw).map(|bool| Value::Int(bool.into())),
        "FLOAT8" => decode(raw).map(Value::Double),
        "FLOAT4" => decode::<f32>(raw).map(|float| Value::Double(float.into())),
        "BYTEA" => decode::<Vec<u8>>(raw).map(|bytes| Value::Bytes(Bytes::from(bytes))),
        other => {
            let problem = format!("a column is {other}; cast it, as in CAST(SUM(x) AS BIGINT)");
            Err(sqlx::Error::Decode(problem.into()))
        }
    }
}

/// A row of a script: its values come as texts.
fn read_texts(row: &PgRow) -> Result<Row, sqlx::Error> {
    let columns = (0..row.len()).map(|column| {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let text = raw.as_str().map_err(sqlx::Error::Decode)?;
        Ok(Value::Text(text.to_owned()))
    });
    columns.collect::<Result<_, _>>().map(Row::new)
}

fn failure(sql: &str, cause: sqlx::Error) -> Failure {
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    const CONFLICTS: [&str; 2] = ["40001", "40P01"];
    let harm = match &cause {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) if CONFLICTS.contains(&error.code()) => Harm::Conflict,
            // The server ends the connection with these.
            Some(error) if matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) => {
                Harm::Connection
            }
            _ => Harm::Statement,
        },
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) => Harm::Statement,
        _ => Harm::Connection,
    };
    let error = match cause.as_database_error() {
        Some(error) if error.is_unique_violation() => StoreError::AlreadyExists {
            what: "a row".to_owned(),
            constraint: error.message().to_owned(),
        },
        _ if harm == Harm::Connection => StoreError::Lost {
            cause: Arc::new(cause),
        },
        _ => StoreError::Statement {
            sql: sql.to_owned(),
            cause: Arc::new(cause),
        },
    };
    Failure { error, harm }
}
