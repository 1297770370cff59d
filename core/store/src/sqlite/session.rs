//! A connection and its transaction: that of the one which writes, which many writes may share, or one
//! in which all is read as it was at a moment.
//!
//! There is one savepoint, if each write is to be undone by itself. The first change of a write moves
//! it to where the write began, so a write that only reads costs none.

use std::ops::ControlFlow;

use super::{Connection, keep, writer::Undo};
use crate::{
    Row, StoreError, Value,
    database::{Answer, Failure, Harm, is_control},
    writer::COMMITS,
};

#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    /// The statement that begins a transaction.
    begin: &'static str,
    undo: Undo,
    /// There is a transaction.
    begun: bool,
    /// Something was changed since the savepoint was set.
    savepoint_used: bool,
    /// The running write has changed something.
    changed: bool,
    /// Why the transaction is over before its end.
    failure: Option<StoreError>,
}

impl Session {
    /// That of the connection that writes.
    pub(crate) fn new(connection: Connection) -> Self {
        Self::with(connection, "BEGIN IMMEDIATE")
    }

    /// That of one that reads.
    pub(super) fn reading(connection: Connection) -> Self {
        Self::with(connection, "BEGIN")
    }

    fn with(connection: Connection, begin: &'static str) -> Self {
        Self {
            connection,
            begin,
            undo: Undo::All,
            begun: false,
            savepoint_used: false,
            changed: false,
            failure: None,
        }
    }

    /// One statement of the write.
    pub(crate) fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        let mut rows = Vec::new();
        let affected = self.each(sql, values, &mut keep(&mut rows))?;
        Ok(Answer { rows, affected })
    }

    /// One statement of the write, whose rows are lent out until that breaks off. Returns how many
    /// rows it changed.
    pub(crate) fn each(
        &mut self,
        sql: &str,
        values: Vec<Value>,
        lend: &mut dyn FnMut(&mut Row) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        if self.failure.is_some() {
            return Err(StoreError::Aborted);
        }
        self.attempt(sql, values, lend).map_err(|failure| {
            if failure.harm != Harm::Statement {
                self.failure = Some(failure.error.clone());
            }
            failure.error
        })
    }

    fn attempt(
        &mut self,
        sql: &str,
        values: Vec<Value>,
        lend: &mut dyn FnMut(&mut Row) -> ControlFlow<()>,
    ) -> Result<u64, Failure> {
        if is_control(sql) {
            return Err(Failure {
                error: StoreError::Aborted,
                harm: Harm::Transaction,
            });
        }
        if !self.begun {
            self.control(self.begin)?;
            self.begun = true;
            if self.undo == Undo::Each {
                self.control("SAVEPOINT w")?;
            }
        }
        let statement = self.connection.prepare(sql)?;
        if !statement.reads() {
            if self.undo == Undo::Each && !self.changed && self.savepoint_used {
                self.control("RELEASE w")?;
                self.control("SAVEPOINT w")?;
            }
            self.changed = true;
            self.savepoint_used = true;
        }
        match statement.run(sql, values, lend) {
            // SQLite rolls back by itself what it cannot go on with.
            Err(failure) if !self.connection.in_transaction() => Err(Failure {
                harm: Harm::Transaction,
                ..failure
            }),
            ran => ran,
        }
    }

    /// The writes of the next transaction are undone like that.
    pub(super) fn begin(&mut self, undo: Undo) {
        self.undo = undo;
        self.begun = false;
        self.savepoint_used = false;
        self.failure = None;
    }

    /// The next write begins.
    pub(super) fn begin_write(&mut self) {
        self.changed = false;
    }

    /// Whether the write that ends now has changed something.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Undoes what the write did that ends now, if each is undone by itself. If that fails, the
    /// transaction is over.
    pub(super) fn undo_write(&mut self) {
        match self.control("ROLLBACK TO w") {
            Ok(()) => self.savepoint_used = false,
            Err(failure) => self.failure = Some(failure.error),
        }
    }

    /// Why the transaction is over before its end, if it is.
    pub(super) fn failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }

    /// Ends the transaction, if there is one. One that cannot be committed is still there.
    pub(super) fn end(&mut self, keep: bool) -> Result<(), StoreError> {
        if self.begun {
            let sql = if keep { "COMMIT" } else { "ROLLBACK" };
            self.control(sql).map_err(|failure| failure.error)?;
            self.begun = false;
            if keep {
                COMMITS.add([]);
            }
        }
        Ok(())
    }

    /// The connection, without a transaction.
    pub(super) fn into_connection(mut self) -> Result<Connection, StoreError> {
        self.end(false)?;
        Ok(self.connection)
    }

    /// A statement about the transaction itself: it harms all that is in it.
    fn control(&self, sql: &str) -> Result<(), Failure> {
        let done = self.connection.run(sql, Vec::new());
        done.map(drop).map_err(|failure| Failure {
            harm: Harm::Transaction,
            ..failure
        })
    }
}
