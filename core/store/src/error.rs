//! What can go wrong with the database.

use std::{error::Error, path::PathBuf, sync::Arc};

use cairn_types::{Coded, ErrorCode};

/// What the database or the system said. Shared, since one failed commit is the failure of every
/// write in it.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a read, a write or the opening of the database failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is such a row already.
    #[error("there is {what} already ({constraint})")]
    AlreadyExists {
        /// What was written: `zone 01890a5d-…`, or `a row` where a statement did it.
        what: String,
        /// The database's words for what must be unique.
        constraint: String,
    },
    /// It refers to a resource that is being deleted.
    #[error("{what} refers to {refers_to}, which is being deleted")]
    Going {
        /// What was written: `cluster 01890a5d-…`.
        what: String,
        /// The uuid that it refers to.
        refers_to: String,
    },
    /// A cascade is to delete what another one is deleting.
    #[error("{uuid} is being deleted by cascade plan {plan}")]
    GoingAlready {
        /// What both are to delete.
        uuid: String,
        /// The other one's plan.
        plan: String,
    },
    /// The data directory or a file in it cannot be used.
    #[error("use data directory {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// Another process holds the data directory.
    #[error(
        "data directory {} is in use by another process; stop that one, or configure another \
         directory",
        directory.display()
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The database could not be opened.
    #[error("open database {}", file.display())]
    Open {
        /// Its file.
        file: PathBuf,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// A server could not be reached, or does not let us in.
    #[error("connect to database {database}")]
    Connect {
        /// The database and its server.
        database: String,
        /// What the server or the system said.
        #[source]
        cause: Cause,
    },
    /// A database cannot be used as it is.
    #[error("database {database}: {problem}")]
    Unfit {
        /// The database and its server.
        database: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Another process writes to the database.
    #[error(
        "database {database} is in use by another node; stop that one, or configure another \
         database"
    )]
    InUse {
        /// The database and its server.
        database: String,
    },
    /// This process may not write to the database now: nothing is written.
    #[error("this node may not write to database {database} now: {problem}")]
    NotOwner {
        /// The database and its server.
        database: String,
        /// Why.
        problem: String,
    },
    /// The connection to the database was lost: nothing is written.
    #[error("the connection to the database was lost")]
    Lost {
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// Other writes came in between, again and again: nothing is written.
    #[error("the write met others each time that it was tried; try again")]
    Conflict {
        /// What the database said at last.
        #[source]
        cause: Cause,
    },
    /// The connection was lost during the commit, and the database could not say any more what
    /// became of it. This process writes nothing after that.
    #[error("it is not known whether the write was committed")]
    Unknown {
        /// What happened to the connection.
        #[source]
        cause: Cause,
    },
    /// A migration failed or does not fit what is in the database.
    #[error("migration {migration}: {problem}")]
    Migration {
        /// `compute 3 host_capacity`
        migration: String,
        /// What is wrong, and what to do.
        problem: String,
        /// What the database said, if it said something.
        #[source]
        cause: Option<Box<StoreError>>,
    },
    /// A statement failed.
    #[error("run `{sql}`")]
    Statement {
        /// The statement, without its values.
        sql: String,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// The transaction that the write was part of could not begin or commit: nothing is written.
    #[error("commit to the database")]
    Commit {
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// A statement before this one ended the transaction: nothing is written.
    #[error("the transaction is over since a statement failed")]
    Aborted,
    /// The closure of the write panicked: nothing of it is written.
    #[error("the write panicked: {0}")]
    Panicked(String),
    /// The closure of the write awaited something beside its transaction: nothing of it is written.
    #[error(
        "the write waits for something other than its transaction; wait for that before the write"
    )]
    Waits,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
    /// The catalog knows no such resource, or the database has no table for it.
    #[error("there is no table for `{0}` in this database")]
    NoTable(String),
    /// A message is of another type than the resource that it is to be stored as.
    #[error("a {found} is no {resource}")]
    OtherMessage {
        /// The noun.
        resource: String,
        /// The message's full name.
        found: String,
    },
    /// A field of a resource cannot be stored.
    #[error("{resource}: field {field} {problem}")]
    Field {
        /// The noun.
        resource: String,
        /// The field's name.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A message is not what its descriptor says.
    #[error("decode a {resource}")]
    Decode {
        /// The noun.
        resource: String,
        /// What the decoder said.
        #[source]
        cause: prost::DecodeError,
    },
    /// A column is not what its reader expects.
    #[error("column {column} of a row is {found}, not {expected}")]
    Column {
        /// Its place in the row, from 0.
        column: usize,
        /// What the reader asked for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
}

impl Coded for StoreError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyExists { .. } => ErrorCode::AlreadyExists,
            Self::Going { .. } | Self::GoingAlready { .. } => ErrorCode::WrongState,
            Self::Connect { .. }
            | Self::NotOwner { .. }
            | Self::Lost { .. }
            | Self::Conflict { .. }
            | Self::Unknown { .. } => ErrorCode::Unavailable,
            _ => ErrorCode::Store,
        }
    }
}
