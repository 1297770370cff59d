//! The connections that read, opened as they are needed.
//!
//! Not sqlx's pool: that one asks a connection for a sign of life whenever it comes back, which
//! costs a second round trip for each read. Here a connection that died is found by the read that
//! fails on it, and a read can be run again.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use super::{Connection, PostgresConfig};
use crate::{Row, StoreError, Value, database::Harm};

#[derive(Debug)]
pub(crate) struct Readers {
    config: PostgresConfig,
    most: u32,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(config: PostgresConfig, most: u32) -> Self {
        let most = most.max(1);
        Self {
            config,
            most,
            permits: Semaphore::new(usize::try_from(most).unwrap_or(1)),
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(StoreError::Closed);
        };
        loop {
            let mut reader = Reader {
                readers: self,
                connection: self.idle().pop(),
            };
            let reused = reader.connection.is_some();
            let connection = match &mut reader.connection {
                Some(connection) => connection,
                none => none.insert(Connection::open_reader(&self.config).await?),
            };
            let failure = match connection.run(sql, values.clone()).await {
                Ok(answer) => return Ok(answer.rows),
                Err(failure) => failure,
            };
            if failure.harm == Harm::Connection {
                reader.connection = None;
                // It may have died long ago, and others with it.
                if reused {
                    continue;
                }
            }
            return Err(failure.error);
        }
    }

    /// Waits for those that read now.
    pub(crate) async fn close(&self) {
        if self.permits.acquire_many(self.most).await.is_ok() {
            self.permits.close();
        }
        let idle = mem::take(&mut *self.idle());
        for connection in idle {
            connection.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Taking and putting back are each one step: no panic leaves it half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; it comes back also when its reader gives up on the way.
struct Reader<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.readers.idle().extend(self.connection.take());
    }
}
