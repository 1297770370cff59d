//! One node writes to a database: the lock that keeps a second one out, and how a node that lost
//! the lock is kept from writing.
//!
//! The lock is an advisory one of a connection of its own; PostgreSQL gives it free when that
//! connection ends. A node learns late that its connection has ended, and by then another one may
//! have begun. So each opening counts up an epoch, and every write looks at it: the table with the
//! epoch is locked by a write until its end, and by an opening while it counts. What an earlier node
//! had under way is over then, and what it begins later finds another epoch than its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Connection, PostgresConfig};
use crate::{Migration, StoreError, database, migration::migrate};

/// Advisory locks are numbers, of each database its own: this is `cairn`.
const LOCK: &str = "SELECT pg_try_advisory_lock(427003703918)";

const EPOCH: &str = "CREATE TABLE IF NOT EXISTS writing_node (epoch BIGINT NOT NULL); \
    INSERT INTO writing_node SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM writing_node)";

/// Waits for the writes that an earlier node has under way; the server ends them if they are idle.
const NEXT_EPOCH: &str = "BEGIN; LOCK TABLE writing_node IN EXCLUSIVE MODE; \
    UPDATE writing_node SET epoch = epoch + 1 RETURNING epoch::text; COMMIT";

/// Begins a write: locked before the snapshot is taken, so that the epoch is that of now. The
/// number of the transaction is asked for in case that the connection is lost while it commits.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE; \
    LOCK TABLE writing_node IN ROW SHARE MODE; \
    SELECT pg_current_xact_id()::text, epoch::text FROM writing_node";

/// The server needs a moment to see that a process that was killed is gone.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// How often the connection with the lock is asked for a sign of life, and how long it may take.
const PING: Duration = Duration::from_secs(1);
const PING_LIMIT: Duration = Duration::from_secs(5);

/// The right to write to the database.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(super) config: PostgresConfig,
    pub(super) epoch: String,
    state: Mutex<State>,
    /// The store closes: nothing is waited for any more.
    pub(super) closing: CancellationToken,
}

#[derive(Debug, Clone)]
enum State {
    Held,
    /// Not held now; it may come back.
    Lost(String),
    /// Others wrote, or may have: what this process has in memory is of the past.
    Over(String),
}

impl Owner {
    /// Takes the lock, begins an epoch, and brings the tables up to date. The connection is the one
    /// with the lock, for [`Owner::watch`].
    pub(crate) async fn open(
        config: &PostgresConfig,
        migrations: &[Migration],
    ) -> Result<(Self, database::Connection), StoreError> {
        let mut connection = Connection::open(config).await?;
        check_server(config, &mut connection).await?;
        let until = Instant::now() + PATIENCE;
        while !lock(&mut connection).await? {
            if Instant::now() >= until {
                let database = config.name.clone();
                return Err(StoreError::InUse { database });
            }
            sleep(PAUSE).await;
        }
        script(&mut connection, EPOCH).await?;
        let epoch = script(&mut connection, NEXT_EPOCH).await?;
        let mut connection = database::Connection::Postgres(connection);
        migrate(&mut connection, migrations).await?;
        let epoch = epoch.first().map_or(Ok(String::new()), |row| row.text(0))?;
        let owner = Self {
            config: config.clone(),
            epoch,
            state: Mutex::new(State::Held),
            closing: CancellationToken::new(),
        };
        Ok((owner, connection))
    }

    /// Whether this process may write.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let problem = match self.state() {
            State::Held => return Ok(()),
            State::Lost(problem) | State::Over(problem) => problem,
        };
        let database = self.config.name.clone();
        Err(StoreError::NotOwner { database, problem })
    }

    /// From now on this process does not write any more.
    pub(super) fn end(&self, problem: &str) {
        let problem = format!("{problem}; restart this node, and let one node use the database");
        error!(database = self.config.name, problem, "writing has ended");
        self.set(State::Over(problem));
    }

    /// The store closes: the lock is given back.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Looks after the lock until the store closes.
    pub(crate) async fn watch(self: Arc<Self>, connection: database::Connection) {
        let closing = self.closing.clone();
        if let Some(connection) = closing.run_until_cancelled(self.keep(connection)).await {
            connection.close().await;
        }
    }

    /// Returns what is left once the lock is of no use any more.
    async fn keep(&self, mut connection: database::Connection) -> database::Connection {
        loop {
            sleep(PING).await;
            let alive = timeout(PING_LIMIT, connection.script("SELECT 1")).await;
            let problem = match alive {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => cairn_types::chain(&failure.error),
                Err(_) => format!("no answer in {} s", PING_LIMIT.as_secs()),
            };
            let problem = format!("the connection that holds its lock was lost: {problem}");
            warn!(database = self.config.name, problem, "writing stops");
            self.lose(problem);
            loop {
                sleep(PING / 10).await;
                match self.take_again().await {
                    Ok(again) => {
                        connection = database::Connection::Postgres(again);
                        break;
                    }
                    Err(error) => self.lose(cairn_types::chain(&error)),
                }
                if let State::Over(_) = self.state() {
                    return connection;
                }
            }
            info!(
                database = self.config.name,
                "the lock is back, writing goes on"
            );
            self.set(State::Held);
        }
    }

    async fn take_again(&self) -> Result<Connection, StoreError> {
        let mut connection = Connection::open(&self.config).await?;
        if !lock(&mut connection).await? {
            let database = self.config.name.clone();
            return Err(StoreError::InUse { database });
        }
        let epoch = script(&mut connection, "SELECT epoch::text FROM writing_node").await?;
        let epoch = epoch.first().map_or(Ok(String::new()), |row| row.text(0))?;
        if epoch != self.epoch {
            self.end("another node has written to it");
            return Err(StoreError::Closed);
        }
        Ok(connection)
    }

    fn lose(&self, problem: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Over(_)) {
            *state = State::Lost(problem);
        }
    }

    fn set(&self, to: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Over(_)) {
            *state = to;
        }
    }

    fn state(&self) -> State {
        // It is replaced in one step: no panic leaves it half done.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }
}

async fn script(connection: &mut Connection, sql: &str) -> Result<Vec<crate::Row>, StoreError> {
    let answer = connection.script(sql).await;
    answer.map_err(|failure| failure.error)
}

async fn lock(connection: &mut Connection) -> Result<bool, StoreError> {
    let rows = script(connection, LOCK).await?;
    rows.first()
        .map_or(Ok(false), |row| Ok(row.text(0)? == "t"))
}

/// What is asked of a server and a database, beyond that it answers: texts are compared byte by
/// byte as in SQLite, and LIKE ignores the case of ASCII letters only.
async fn check_server(
    config: &PostgresConfig,
    connection: &mut Connection,
) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('server_version_num')::int >= 130000, \
        current_setting('server_version'), getdatabaseencoding(), \
        'B' < 'a' AND '_' < 'a' AND 'a b' < 'aa' AND '~' < U&'\\00e4' \
        AND 'A' ILIKE 'a' AND NOT U&'\\00c4' ILIKE U&'\\00e4', \
        datcollate || ' and ' || datctype, pg_is_in_recovery() \
        FROM pg_database WHERE datname = current_database()";
    let rows = script(connection, sql).await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let (version, encoding, locale) = (row.text(1)?, row.text(2)?, row.text(4)?);
    let create = "create it with `CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`";
    let problem = if row.text(0)? != "t" {
        format!("its server is PostgreSQL {version}; use 13 or later")
    } else if row.text(5)? == "t" {
        "its server is a standby, which cannot be written to; use the primary".to_owned()
    } else if encoding != "UTF8" {
        format!("its encoding is {encoding}; {create}")
    } else if row.text(3)? != "t" {
        format!("it orders and compares texts by the rules of {locale}; {create}")
    } else {
        return Ok(());
    };
    let database = config.name.clone();
    Err(StoreError::Unfit { database, problem })
}
