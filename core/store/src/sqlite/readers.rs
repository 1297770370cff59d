//! The connections that read.
//!
//! A read of a few rows by an index takes some microseconds, less than it would take to hand it to
//! another thread and back: it runs where it is asked for, on a connection kept for that. Any other
//! read may take as long as it likes, since it runs on a thread that may wait.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
};

use super::{Connection, Session, keep, writer::run_one};
use crate::{
    Row, StoreError, Tx, Value,
    database::{Failure, Harm},
    tables::Tables,
    tx::Writing,
    writer::Job,
};

#[derive(Debug)]
pub(crate) struct Readers {
    file: PathBuf,
    /// For reads by an index: nothing that takes long is done on them.
    brief: Pool,
    /// For all others, opened as they are needed.
    long: Arc<Pool>,
}

/// Connections that are not in use, and a permit for each that may be.
#[derive(Debug)]
struct Pool {
    most: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// There is a writer already: only it can make the files that a reader needs.
    pub(crate) fn open(file: PathBuf, most: u32) -> Result<Self, StoreError> {
        let brief = Pool::new(most);
        for _ in 0..brief.most {
            let connection = Connection::open_brief_reader(&file)?;
            connection.wait_for_locks(false);
            brief.idle().push(connection);
        }
        Ok(Self {
            file,
            brief,
            long: Arc::new(Pool::new(most)),
        })
    }

    /// A read of a few rows by an index.
    pub(crate) async fn brief(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        match self.at_once(sql, &values) {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(failure)) if failure.harm == Harm::Statement => Err(failure.error),
            // All connections are in use, or someone has locked the database.
            _ => self.rows(sql, values).await,
        }
    }

    fn at_once(&self, sql: &str, values: &[Value]) -> Option<Result<Vec<Row>, Failure>> {
        let _permit = self.brief.permits.try_acquire().ok()?;
        let connection = self.brief.idle().pop()?;
        if cfg!(debug_assertions) {
            refuse_scan(&connection, sql, values);
        }
        let answer = connection.run(sql, values.to_vec());
        self.brief.idle().push(connection);
        Some(answer.map(|answer| answer.rows))
    }

    /// Any read. One whose caller goes away ends with its next row.
    pub(crate) async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let permit = Arc::clone(&self.long.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (caller, rows) = oneshot::channel();
        let (file, pool, sql) = (self.file.clone(), Arc::clone(&self.long), sql.to_owned());
        spawn_blocking(move || {
            let rows = pool.read(permit, &file, &sql, values, || !caller.is_closed());
            // The caller may have gone.
            let _ = caller.send(rows);
        });
        rows.await.map_err(|_| StoreError::Closed)?
    }

    /// Any number of reads that see the same, on a thread that may wait.
    pub(crate) async fn snapshot(
        &self,
        tables: Arc<Tables>,
        mut job: Box<dyn Job>,
    ) -> Result<(), StoreError> {
        let permit = Arc::clone(&self.long.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (file, pool) = (self.file.clone(), Arc::clone(&self.long));
        spawn_blocking(move || {
            let session = pool.take(&file).map(Session::reading);
            match session {
                Ok(session) => {
                    let mut tx = Tx::new(Writing::Sqlite(session), tables);
                    run_one(&mut tx, &mut *job);
                    if let Writing::Sqlite(session) = tx.writing {
                        // One that cannot end its transaction is closed.
                        pool.idle().extend(session.into_connection());
                    }
                }
                Err(error) => job.fail(error),
            }
            // The connection is back: who closes finds it there.
            drop(permit);
            job.answer();
        });
        Ok(())
    }

    /// Waits for those that read now.
    pub(crate) async fn close(&self) {
        self.long.close().await;
        self.brief.close().await;
    }
}

/// What scans is brief in a test and takes long in a large cloud.
fn refuse_scan(connection: &Connection, sql: &str, values: &[Value]) {
    let plan = connection.run(&format!("EXPLAIN QUERY PLAN {sql}"), values.to_vec());
    let steps = plan.iter().flat_map(|answer| &answer.rows);
    for step in steps.filter_map(|row| row.text(3).ok()) {
        assert!(!step.starts_with("SCAN"), "`{sql}` is not brief: {step}");
    }
}

impl Pool {
    fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            permits: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1))),
            idle: Mutex::default(),
        }
    }

    /// Reads, on a thread that may wait, as long as the rows are `wanted`.
    fn read(
        &self,
        permit: OwnedSemaphorePermit,
        file: &Path,
        sql: &str,
        values: Vec<Value>,
        wanted: impl Fn() -> bool,
    ) -> Result<Vec<Row>, StoreError> {
        let connection = self.take(file)?;
        let mut rows = Vec::new();
        let mut keep = keep(&mut rows);
        let ran = connection.prepare(sql).and_then(|statement| {
            statement.run(sql, values, &mut |row| match wanted() {
                true => keep(row),
                false => ControlFlow::Break(()),
            })
        });
        drop(keep);
        self.idle().push(connection);
        // The connection is back: who closes finds it there.
        drop(permit);
        ran.map(|_| rows).map_err(|f| f.error)
    }

    /// A connection for reads that may take long, which is not in use.
    fn take(&self, file: &Path) -> Result<Connection, StoreError> {
        let idle = self.idle().pop();
        idle.map_or_else(|| Connection::open_long_reader(file), Ok)
    }

    async fn close(&self) {
        if self.permits.acquire_many(self.most).await.is_ok() {
            self.permits.close();
        }
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Taking and putting back are each one step: no panic leaves it half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
