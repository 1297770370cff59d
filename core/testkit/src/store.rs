//! A database for one test.

use std::{ops::Deref, path::Path, sync::Arc};

use cairn_proto::meta::{Catalog, ResourceType};
use cairn_store::{Migration, Store, StoreConfig, create_table_sql};
use tempfile::TempDir;

/// A database in a directory of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct TestStore {
    // Before the directory: fields are dropped in their order.
    store: Store,
    directory: TempDir,
}

impl TestStore {
    /// A database of the built-in catalog.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn new(migrations: &[Migration]) -> Self {
        Self::with(Catalog::built_in(), migrations).await
    }

    /// A database of that catalog.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn with(catalog: Arc<Catalog>, migrations: &[Migration]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = StoreConfig::new(directory.path());
        let store = Store::open(&config, catalog, migrations).await;
        let store = store.unwrap_or_else(|error| panic!("{}", cairn_types::chain(&error)));
        Self { store, directory }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Closes it and opens it again, as a process does that starts anew.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn reopen(&mut self, migrations: &[Migration]) {
        self.store.close().await;
        let config = StoreConfig::new(self.directory.path());
        let store = Store::open(&config, Arc::clone(self.store.catalog()), migrations).await;
        self.store = store.unwrap_or_else(|error| panic!("{}", cairn_types::chain(&error)));
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
