//! A connection that writes, and the transaction of the write that runs on it.
//!
//! PostgreSQL ends a transaction with the first statement that fails, where a closure may look at
//! the error and go on. That is rare, so a write runs without a savepoint first. If it went on
//! after an error it is undone and run again, with a savepoint before each statement.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Connection, Owner, owner::BEGIN};
use crate::{
    StoreError, Value,
    database::{Answer, Failure, Harm, is_control},
    writer::COMMITS,
};

/// Savepoints of one write, one after the other.
const SAVEPOINT: &str = "SAVEPOINT s";

/// The pauses between two questions what became of a commit.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Session {
    owner: Arc<Owner>,
    connection: Option<Connection>,
    /// The number of the transaction, if there is one.
    begun: Option<String>,
    /// With a savepoint before each statement.
    careful: bool,
    /// Why the transaction is over before its end.
    failed: Option<Failure>,
    /// The closure ran statements after that.
    went_on: bool,
}

/// What became of a write.
pub(super) enum End {
    /// What its closure returned is true.
    Done,
    /// It is to be run again with savepoints: nothing is wrong.
    Again,
    /// Nothing is written, since there is such a row. Another write may have made it after this one
    /// looked; who looks again sees it.
    Doubted,
    /// Nothing is written, for a reason that may be gone at the next try.
    Retry(StoreError),
    /// Nothing is written, or nobody can say.
    Fail(StoreError),
}

impl Session {
    pub(crate) fn new(owner: Arc<Owner>) -> Self {
        Self {
            owner,
            connection: None,
            begun: None,
            careful: false,
            failed: None,
            went_on: false,
        }
    }

    /// The next write begins. Its transaction begins with its first statement.
    pub(super) fn begin(&mut self, careful: bool) -> Result<(), StoreError> {
        self.owner.check()?;
        self.careful = careful;
        self.failed = None;
        self.went_on = false;
        Ok(())
    }

    /// One statement of the write.
    pub(crate) async fn run(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Answer, StoreError> {
        if self.failed.is_some() {
            self.went_on = true;
            return Err(StoreError::Aborted);
        }
        let (failure, undone) = match self.attempt(sql, values).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => (failure, true),
            Err(failure) => (failure, false),
        };
        let error = failure.error.clone();
        if !undone {
            self.failed = Some(failure);
        }
        Err(error)
    }

    /// The inner failure is one that the transaction has survived.
    async fn attempt(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Result<Answer, Failure>, Failure> {
        if is_control(sql) {
            return Err(Failure {
                error: StoreError::Aborted,
                harm: Harm::Transaction,
            });
        }
        let careful = self.careful;
        let connection = self.transaction().await?;
        if !careful {
            return connection.run(sql, values).await.map(Ok);
        }
        connection.script(SAVEPOINT).await?;
        match connection.run(sql, values).await {
            Ok(answer) => {
                connection.script("RELEASE s").await?;
                Ok(Ok(answer))
            }
            Err(failure) if failure.harm == Harm::Statement => {
                connection.script("ROLLBACK TO s; RELEASE s").await?;
                Ok(Err(failure))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The connection, in a transaction.
    async fn transaction(&mut self) -> Result<&mut Connection, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let opened = Connection::open_writer(&self.owner.config).await;
                none.insert(opened.map_err(|error| Failure {
                    error,
                    harm: Harm::Connection,
                })?)
            }
        };
        if self.begun.is_none() {
            let rows = connection.script(BEGIN).await?;
            let row = rows.first().map(|row| (row.text(0), row.text(1)));
            let (number, epoch) = match row {
                Some((Ok(number), Ok(epoch))) => (number, epoch),
                _ => Default::default(),
            };
            self.begun = Some(number);
            if epoch != self.owner.epoch {
                self.owner.end("another node has written to it");
                let error = self.owner.check().err();
                return Err(Failure {
                    error: error.unwrap_or(StoreError::Closed),
                    harm: Harm::Transaction,
                });
            }
        }
        Ok(connection)
    }

    /// Ends the write, which wants to be kept or not.
    pub(super) async fn end(&mut self, keep: bool) -> End {
        let number = self.begun.take();
        let Some(failure) = self.failed.take() else {
            return match (number, keep) {
                (None, _) => End::Done,
                (Some(_), false) => {
                    self.rollback().await;
                    End::Done
                }
                (Some(number), true) => self.commit(&number).await,
            };
        };
        if failure.harm == Harm::Connection {
            self.connection = None;
        } else if number.is_some() {
            self.rollback().await;
        }
        match failure.harm {
            Harm::Statement if keep || self.went_on => End::Again,
            Harm::Statement if matches!(failure.error, StoreError::AlreadyExists { .. }) => {
                End::Doubted
            }
            Harm::Statement => End::Done,
            Harm::Conflict | Harm::Connection => End::Retry(failure.error),
            Harm::Transaction => End::Fail(failure.error),
        }
    }

    async fn rollback(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.script("ROLLBACK").await.is_err()
        {
            // The server rolls back when the connection ends.
            self.connection = None;
        }
    }

    async fn commit(&mut self, number: &str) -> End {
        let Some(connection) = &mut self.connection else {
            return End::Fail(StoreError::Closed);
        };
        let Err(failure) = connection.script("COMMIT").await else {
            COMMITS.add([]);
            return End::Done;
        };
        match failure.harm {
            Harm::Conflict => End::Retry(failure.error),
            Harm::Statement | Harm::Transaction => End::Fail(failure.error),
            Harm::Connection => {
                self.connection = None;
                match self.outcome(number).await {
                    Some(true) => {
                        COMMITS.add([]);
                        End::Done
                    }
                    Some(false) => End::Retry(failure.error),
                    None => End::Fail(StoreError::Unknown {
                        cause: Arc::new(failure.error),
                    }),
                }
            }
        }
    }

    /// What became of a transaction whose connection was lost while it committed. It is asked until
    /// there is an answer: what depends on it can go neither on nor back. None if the store closes,
    /// or if the server knows nothing of it, and then this process does not write any more.
    async fn outcome(&mut self, number: &str) -> Option<bool> {
        let sql = format!("SELECT pg_xact_status('{number}'::xid8)");
        let closing = self.owner.closing.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = closing.run_until_cancelled(self.ask(&sql)).await?;
            match asked.as_ref().map(|status| status.as_deref()) {
                Ok(Some("committed")) => return Some(true),
                Ok(Some("aborted")) => return Some(false),
                // The server has not seen yet that the connection is gone, or it is not there.
                Ok(Some("in progress")) | Err(Harm::Connection | Harm::Conflict) => {}
                Ok(_) | Err(Harm::Statement | Harm::Transaction) => {
                    self.owner
                        .end("its server does not know a transaction that it was to commit");
                    return None;
                }
            }
            closing.run_until_cancelled(sleep(pause)).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask(&mut self, sql: &str) -> Result<Option<String>, Harm> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let opened = Connection::open_writer(&self.owner.config).await;
                opened.map_err(|_| Harm::Connection)?
            }
        };
        let rows = connection.script(sql).await.map_err(|f| f.harm)?;
        self.connection = Some(connection);
        let status = rows.first().map(|row| row.opt_text(0));
        Ok(status.and_then(Result::ok).flatten())
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
