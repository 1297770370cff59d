//! The handle to the database, and its opening and closing.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use cairn_proto::meta::{Catalog, Resource, ResourceType};
use futures::future::BoxFuture;
use prost_reflect::DynamicMessage;
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    Migration, Row, StoreConfig, StoreError, Tx, Value, going,
    migration::migrate,
    sqlite::{Connection, Readers},
    tables::Tables,
    tx::{decode_all, decode_dynamic, encode_all},
    writer::{self, Job, Write},
};

/// The database; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tables: Arc<Tables>,
    readers: Readers,
    writes: mpsc::Sender<Box<dyn Job>>,
    closing: Arc<Notify>,
    /// The task that writes; aborted when the last handle goes, since nobody waits for it then.
    writer: Mutex<JoinSet<()>>,
    /// Held as long as it is open.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Opens the database, makes it if it is not there, and applies the migrations that it does
    /// not have.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process holds the directory, [`StoreError::Migration`]
    /// if what is there does not fit, and whatever the database and the system say.
    pub async fn open(
        config: &StoreConfig,
        catalog: Arc<Catalog>,
        migrations: &[Migration],
    ) -> Result<Self, StoreError> {
        let lock = lock(&config.directory)?;
        let file = config.directory.join("cairn.db");
        private_file(&file).map_err(|cause| StoreError::Directory {
            directory: config.directory.clone(),
            cause: Arc::new(cause),
        })?;
        let mut connection = Connection::open(&file).await?;
        let migrations = [&[going::MIGRATION], migrations].concat();
        migrate(&mut connection, &migrations).await?;
        // They open after the writer: only it can make the files that a reader needs.
        let readers = Readers::new(file, config.read_connections);
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let rows = readers.rows(sql, Vec::new()).await?;
        let existing = rows.iter().map(|row| row.text(0));
        let existing = existing.collect::<Result<HashSet<_>, _>>()?;
        let tables = Arc::new(Tables::new(catalog, &existing));

        let (writes, waiting) = mpsc::channel(writer::WAITING);
        let closing = Arc::new(Notify::new());
        let tx = Tx::new(connection, Arc::clone(&tables));
        let mut task = JoinSet::new();
        task.spawn(writer::run(tx, waiting, Arc::clone(&closing)));
        Ok(Self(Arc::new(Inner {
            tables,
            readers,
            writes,
            closing,
            writer: Mutex::new(task),
            lock: Mutex::new(Some(lock)),
        })))
    }

    /// Ends what waits to be written, refuses what comes after it, and gives the directory free.
    pub async fn close(&self) {
        self.0.closing.notify_one();
        let mut writer = self.0.writer.lock().await;
        while writer.join_next().await.is_some() {}
        self.0.readers.close().await;
        *self.0.lock.lock().await = None;
    }

    /// The resources that are known.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.0.tables.catalog
    }

    /// The resources that have a table here, in no order.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.0.tables.all().map(|table| &table.resource)
    }

    /// Whether the resource of that noun has a table here.
    #[must_use]
    pub fn has_table(&self, noun: &str) -> bool {
        self.0.tables.get(noun).is_ok()
    }

    /// Changes the database: the only way to do so.
    ///
    /// The closure touches nothing but the transaction that it is given, and may be run again;
    /// to wait for another write inside of it is to wait for ever.
    /// If it returns an error, nothing of what it did is kept, and the error is returned. When
    /// this returns `Ok`, the change is on disk. A caller that goes away takes its write back,
    /// unless the write has begun.
    ///
    /// # Errors
    /// What the closure returns; [`StoreError::Commit`] if the database could not keep it.
    pub async fn write<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (caller, outcome) = oneshot::channel();
        let write = Box::new(Write::new(closure, caller));
        if self.0.writes.send(write).await.is_err() {
            return Err(StoreError::Closed.into());
        }
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// The resource with that uuid.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get<R: Resource>(&self, uuid: &str) -> Result<Option<R>, StoreError> {
        let found = self.list("uuid = ?", vec![uuid.into()]).await?;
        Ok(found.into_iter().next())
    }

    /// The resource with that uuid, known by its descriptor only.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get_dynamic(
        &self,
        resource: &ResourceType,
        uuid: &str,
    ) -> Result<Option<DynamicMessage>, StoreError> {
        let values = vec![uuid.into()];
        let encoded = self
            .list_encoded(&resource.name, "uuid = ?", values)
            .await?;
        decode_dynamic(resource, encoded)
    }

    /// The resources that fulfil a condition: what stands behind WHERE, which may go on with
    /// ORDER BY and LIMIT; empty for all.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list<R: Resource>(
        &self,
        sql_where: &str,
        values: Vec<Value>,
    ) -> Result<Vec<R>, StoreError> {
        let encoded = self.list_encoded(R::NOUN, sql_where, values).await?;
        decode_all(&encoded)
    }

    /// The rows of a SELECT. Values take the places of `?`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.0.readers.rows(sql, values).await
    }

    async fn list_encoded(
        &self,
        noun: &str,
        sql_where: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let table = self.0.tables.get(noun)?;
        let rows = self.rows(&table.select_where(sql_where), values).await?;
        encode_all(&table.resource, &rows)
    }
}

/// Two processes on one database would each believe that they own what is in it.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let failed = |cause| StoreError::Directory {
        directory: directory.to_owned(),
        cause: Arc::new(cause),
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let file = private_file(&directory.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Opens a file, made if it is not there, that its owner only may read. The files that the
/// database makes beside its own get the same mode.
fn private_file(path: &Path) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
