//! The handle to the database, and its opening and closing.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use cairn_proto::meta::{Catalog, Resource, ResourceType};
use futures::future::BoxFuture;
use prost_reflect::DynamicMessage;
use tokio::{
    runtime::Handle,
    sync::{Mutex, RwLock, mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    DatabaseConfig, Migration, PostgresConfig, Row, StoreConfig, StoreError, Tx, Value,
    database::{Connection, Kind},
    going,
    migration::migrate,
    postgres::{self, Owner},
    readers::Readers,
    sqlite,
    tables::Tables,
    tx::{Writing, decode_all, decode_dynamic, encode_all},
    writer::{self, Request, Write},
};

/// The database; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tables: Arc<Tables>,
    readers: Readers,
    writes: mpsc::Sender<Request>,
    // After the sender: without one it ends.
    _thread: Option<Thread>,
    /// The tasks that write, or that wait for the thread that does.
    writers: Mutex<JoinSet<()>>,
    owner: Option<Owned>,
    /// Held as long as it is open, and as long as something writes.
    lock: Mutex<Option<Arc<File>>>,
}

/// The right to write to a server's database, and the task that looks after it.
#[derive(Debug)]
struct Owned {
    owner: Arc<Owner>,
    task: Mutex<JoinSet<()>>,
}

/// The thread that writes to SQLite. Who drops the last handle waits for its end, for the length of
/// a commit at most: the directory is free then.
#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        // The last handle may go with a closure, on that thread.
        let others = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.0.take().filter(others) {
            // A panic has been told where it was.
            let _ = thread.join();
        }
    }
}

/// What writes, and where it takes the writes from.
struct Writers {
    tables: Arc<Tables>,
    waiting: mpsc::Receiver<Request>,
}

impl Store {
    /// Opens the database, makes it if it is not there, and applies the migrations that it does
    /// not have.
    ///
    /// # Errors
    /// [`StoreError::Locked`] or [`StoreError::InUse`] if another process holds the directory or
    /// the database, [`StoreError::Migration`] or [`StoreError::Unfit`] if what is there does not
    /// fit, and whatever the database and the system say.
    pub async fn open(
        config: &StoreConfig,
        catalog: Arc<Catalog>,
        migrations: &[Migration],
    ) -> Result<Self, StoreError> {
        let lock = Arc::new(lock(&config.directory)?);
        let migrations = &[going::MIGRATIONS, migrations].concat();
        let most = config.read_connections;
        let (writes, waiting) = mpsc::channel(writer::WAITING);
        let writers = |tables: &Arc<Tables>| Writers {
            tables: Arc::clone(tables),
            waiting,
        };
        let mut thread = None;
        let (readers, tables, tasks, owner) = match &config.database {
            DatabaseConfig::Sqlite => {
                let (file, connection) = open_sqlite(&config.directory, migrations).await?;
                // They open after the writer: only it can make the files that a reader needs.
                let readers = Readers::Sqlite(sqlite::Readers::open(file.clone(), most)?);
                let tables = tables(catalog, &readers).await?;
                let writers = writers(&tables).of_sqlite(connection, Arc::clone(&lock));
                let (tasks, writer) = writers.map_err(|cause| StoreError::Open {
                    file,
                    cause: Arc::new(cause),
                })?;
                thread = Some(writer);
                (readers, tables, tasks, None)
            }
            DatabaseConfig::Postgres(postgres) => {
                let (owner, connection) = Owner::open(postgres, migrations).await?;
                let owner = Arc::new(owner);
                let readers = postgres::Readers::new(postgres.clone(), most);
                let readers = Readers::Postgres(readers);
                let tables = tables(catalog, &readers).await?;
                let tasks = writers(&tables).of_postgres(postgres, &owner);
                let mut task = JoinSet::new();
                task.spawn(Arc::clone(&owner).watch(connection));
                let task = Mutex::new(task);
                (readers, tables, tasks, Some(Owned { owner, task }))
            }
        };
        Ok(Self(Arc::new(Inner {
            tables,
            readers,
            writes,
            _thread: thread,
            writers: Mutex::new(tasks),
            owner,
            lock: Mutex::new(Some(lock)),
        })))
    }

    /// Ends what waits to be written, refuses what comes after it, and gives the directory free.
    pub async fn close(&self) {
        // Refused if it is closed already.
        let _ = self.0.writes.send(Request::Close).await;
        let mut writers = self.0.writers.lock().await;
        while writers.join_next().await.is_some() {}
        self.0.readers.close().await;
        if let Some(Owned { owner, task }) = &self.0.owner {
            owner.close();
            while task.lock().await.join_next().await.is_some() {}
        }
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
    /// The closure touches nothing but the transaction that it is given, and may be run again from
    /// its start, for instance since it met another one; what counts is its last run. It awaits
    /// nothing but that transaction: to wait for another write inside of it is to wait for ever on
    /// PostgreSQL, and refused on SQLite, as is waiting for anything else.
    /// If it returns an error, nothing of what it did is kept, and the error is returned. When
    /// this returns `Ok`, the change is on disk. A caller that goes away takes its write back,
    /// unless the write has begun.
    ///
    /// # Errors
    /// What the closure returns. [`StoreError::Panicked`] if it panicked; [`StoreError::Waits`] if
    /// it waited for something else. [`StoreError::Commit`] if the database could not keep it;
    /// [`StoreError::Conflict`], [`StoreError::Lost`], [`StoreError::Connect`] and
    /// [`StoreError::NotOwner`] if a server could not keep it now. With each of these nothing is
    /// written. A commit whose connection was lost is looked up until it is known what became of
    /// it; [`StoreError::Unknown`] if that cannot be known any more, and then this process writes
    /// nothing after it.
    pub async fn write<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (caller, outcome) = oneshot::channel();
        let write = Box::new(Write::new(closure, caller));
        if self.0.writes.send(Request::Write(write)).await.is_err() {
            return Err(StoreError::Closed.into());
        }
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// Reads what belongs together: all that the closure reads is of one moment. It is like one of
    /// [`write`](Self::write), but what it would change is refused, and on SQLite no write waits for
    /// it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn snapshot<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let Readers::Sqlite(readers) = &self.0.readers else {
            let closure = Arc::new(Mutex::new(closure));
            let reads = self.write(move |tx| {
                let closure = Arc::clone(&closure);
                Box::pin(async move {
                    tx.execute("SET TRANSACTION READ ONLY", Vec::new()).await?;
                    let mut closure = closure.lock().await;
                    (*closure)(tx).await
                })
            });
            return reads.await;
        };
        let (caller, outcome) = oneshot::channel();
        let read = Box::new(Write::new(closure, caller));
        let tables = Arc::clone(&self.0.tables);
        readers.snapshot(tables, read).await?;
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
        let encoded = self.point(R::NOUN, uuid).await?;
        let found = decode_all(&encoded)?;
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
        let encoded = self.point(&resource.name, uuid).await?;
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

    /// As [`list`](Self::list), for the few that an index finds: what takes no longer than
    /// [`get`](Self::get) is done at once.
    ///
    /// # Errors
    /// If the database fails.
    ///
    /// # Panics
    /// In a debug build, if SQLite would scan a table or an index.
    pub async fn find<R: Resource>(
        &self,
        sql_where: &str,
        values: Vec<Value>,
    ) -> Result<Vec<R>, StoreError> {
        let table = self.0.tables.get(R::NOUN)?;
        let sql = table.select_where(sql_where);
        let rows = self.find_rows(&sql, values).await?;
        decode_all(&encode_all(&table.resource, &rows)?)
    }

    /// As [`rows`](Self::rows), for the few that an index finds.
    ///
    /// # Errors
    /// If the database fails.
    ///
    /// # Panics
    /// As [`find`](Self::find).
    pub async fn find_rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.0.readers.brief(sql, values).await
    }

    /// The rows of a SELECT. Values take the places of `?`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.0.readers.rows(sql, values).await
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.readers.kind()
    }

    async fn point(&self, noun: &str, uuid: &str) -> Result<Vec<Bytes>, StoreError> {
        let table = self.0.tables.get(noun)?;
        let values = vec![uuid.into()];
        let rows = self.0.readers.brief(&table.get, values).await?;
        encode_all(&table.resource, &rows)
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

impl Writers {
    /// A thread, which lets writes share a transaction, and a task that waits for its end. It holds
    /// `lock` as long as it may write.
    fn of_sqlite(
        self,
        connection: sqlite::Connection,
        lock: Arc<File>,
    ) -> io::Result<(JoinSet<()>, Thread)> {
        let session = sqlite::Session::new(connection);
        let tx = Tx::new(Writing::Sqlite(session), self.tables);
        let (end, ended) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let thread = thread::Builder::new()
            .name("cairn-writer".to_owned())
            .spawn(move || {
                // What a closure awaits that it should not is known to the runtime, and told.
                let _entered = runtime.enter();
                sqlite::run(tx, self.waiting);
                drop((lock, end));
            })?;
        let mut task = JoinSet::new();
        task.spawn(async {
            // Nothing is sent: it goes with the thread.
            let _ = ended.await;
        });
        Ok((task, Thread(Some(thread))))
    }

    /// A task for each connection.
    fn of_postgres(self, config: &PostgresConfig, owner: &Arc<Owner>) -> JoinSet<()> {
        let waiting = Arc::new(Mutex::new(self.waiting));
        let beside = Arc::new(RwLock::new(()));
        let mut tasks = JoinSet::new();
        for _ in 0..config.write_connections.max(1) {
            let session = postgres::Session::new(Arc::clone(owner));
            let tx = Tx::new(Writing::Postgres(session), Arc::clone(&self.tables));
            tasks.spawn(postgres::run(tx, Arc::clone(&waiting), Arc::clone(&beside)));
        }
        tasks
    }
}

/// Opens the file, made if it is not there, and brings it up to date.
async fn open_sqlite(
    directory: &Path,
    migrations: &[Migration],
) -> Result<(PathBuf, sqlite::Connection), StoreError> {
    let file = directory.join("cairn.db");
    private_file(&file).map_err(|cause| StoreError::Directory {
        directory: directory.to_owned(),
        cause: Arc::new(cause),
    })?;
    let connection = sqlite::Connection::open(&file)?;
    let mut connection = Connection::Sqlite(connection);
    migrate(&mut connection, migrations).await?;
    match connection {
        Connection::Sqlite(connection) => Ok((file, connection)),
        Connection::Postgres(_) => Err(StoreError::Closed),
    }
}

/// The tables that are there.
async fn tables(catalog: Arc<Catalog>, readers: &Readers) -> Result<Arc<Tables>, StoreError> {
    let rows = readers.rows(readers.kind().tables(), Vec::new()).await?;
    let existing = rows.iter().map(|row| row.text(0));
    let existing = existing.collect::<Result<HashSet<_>, _>>()?;
    Ok(Arc::new(Tables::new(catalog, &existing)))
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
