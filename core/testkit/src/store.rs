//! A database for one test.

use std::{ops::Deref, path::Path, sync::Arc};

use cairn_proto::meta::{Catalog, ResourceType};
use cairn_store::{DatabaseConfig, Migration, Store, StoreConfig, create_table_sql};
use tempfile::TempDir;

use crate::PostgresServer;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// Makes two tests of each function that takes a [`Database`]: `name::on_sqlite` and
/// `name::on_postgres`. Behind `multi_thread:` they run on two threads; `blocking:` is for functions
/// that are not async.
#[macro_export]
macro_rules! on_both_databases {
    (multi_thread: $($test:ident),* $(,)?) => {
        $crate::on_both_databases!(@(flavor = "multi_thread", worker_threads = 2) $($test)*);
    };
    (blocking: $($test:ident),* $(,)?) => {$(
        mod $test {
            #[test]
            fn on_sqlite() {
                super::$test($crate::Database::Sqlite);
            }

            #[test]
            fn on_postgres() {
                super::$test($crate::Database::Postgres);
            }
        }
    )*};
    ($($test:ident),* $(,)?) => {
        $crate::on_both_databases!(@(flavor = "current_thread") $($test)*);
    };
    (@$options:tt $($test:ident)*) => {$(
        mod $test {
            #[tokio::test $options]
            async fn on_sqlite() {
                super::$test($crate::Database::Sqlite).await;
            }

            #[tokio::test $options]
            async fn on_postgres() {
                super::$test($crate::Database::Postgres).await;
            }
        }
    )*};
}

/// Where a database is that may be opened again and again; it goes when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    server: Option<PostgresServer>,
    directory: TempDir,
}

impl TestDatabase {
    /// An empty one.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn new(database: Database) -> Self {
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(PostgresServer::start().await),
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { server, directory }
    }

    /// How to open it.
    #[must_use]
    pub fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.directory());
        if let Some(server) = &self.server {
            config.database = DatabaseConfig::Postgres(server.config());
        }
        config
    }

    /// The data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its server, if it has one.
    pub fn server(&mut self) -> Option<&mut PostgresServer> {
        self.server.as_mut()
    }

    /// Opens it.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn open(&self, catalog: Arc<Catalog>, migrations: &[Migration]) -> Store {
        let store = Store::open(&self.config(), catalog, migrations).await;
        store.unwrap_or_else(|error| panic!("{}", cairn_types::chain(&error)))
    }
}

/// An open database of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct TestStore {
    // Before the database: fields are dropped in their order.
    store: Store,
    database: TestDatabase,
}

impl TestStore {
    /// A database of the built-in catalog.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn new(database: Database, migrations: &[Migration]) -> Self {
        Self::with(database, Catalog::built_in(), migrations).await
    }

    /// A database of that catalog.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn with(database: Database, catalog: Arc<Catalog>, migrations: &[Migration]) -> Self {
        let database = TestDatabase::new(database).await;
        let store = database.open(catalog, migrations).await;
        Self { store, database }
    }

    /// Where it is.
    pub fn database(&mut self) -> &mut TestDatabase {
        &mut self.database
    }

    /// Closes it and opens it again, as a process does that starts anew.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn reopen(&mut self, migrations: &[Migration]) {
        self.store.close().await;
        let catalog = Arc::clone(self.store.catalog());
        self.store = self.database.open(catalog, migrations).await;
    }
}

/// The tables of resources that have no migration of their own.
#[must_use]
pub fn tables_of<'r>(resources: impl IntoIterator<Item = &'r ResourceType>) -> Migration {
    let sql: String = resources.into_iter().map(create_table_sql).collect();
    Migration {
        service: "test",
        number: 1,
        name: "tables",
        // A test's process ends soon, and a migration's text is constant everywhere else.
        sql: sql.leak(),
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
