//! What only a server can do: be gone, come back, be another's.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cairn_proto::{compute::v1alpha1::Zone, meta::Catalog};
use cairn_store::{DatabaseConfig, Migration, PostgresConfig, Store, StoreConfig, StoreError};
use cairn_testkit::{Database, PostgresServer, TestDatabase, tables_of, wait_for};
use cairn_types::{Coded as _, ErrorCode, chain};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use crate::zone;

const LIMIT: Duration = Duration::from_secs(30);

/// Ends every connection of a node.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'cairn'";

fn tables() -> Migration {
    tables_of([&**Catalog::built_in().resource("zone").unwrap()])
}

async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
    Store::open(config, Catalog::built_in(), &[tables()]).await
}

async fn insert(store: &Store, uuid: &str) -> Result<(), StoreError> {
    let uuid = uuid.to_owned();
    let write = store.write(move |tx| {
        let uuid = uuid.clone();
        Box::pin(async move { tx.insert(&zone(&uuid)).await })
    });
    write.await
}

async fn count(store: &Store) -> i64 {
    let rows = store.rows("SELECT COUNT(*) FROM zone", Vec::new()).await;
    rows.unwrap()[0].int(0).unwrap()
}

#[tokio::test]
async fn a_database_has_one_store_at_a_time() {
    let mut place = TestDatabase::new(Database::Postgres).await;
    let other = tempfile::tempdir().unwrap();
    let first = open(&place.config()).await.unwrap();
    let mut config = place.config();
    config.directory = other.path().to_owned();
    let refused = open(&config).await.unwrap_err().to_string();
    let expected = format!(
        "database postgres at {} is in use by another node; stop that one, or configure another \
         database",
        place.server().unwrap().directory().display()
    );
    assert_eq!(refused, expected);
    insert(&first, "a").await.unwrap();
    first.close().await;
    let second = open(&config).await.unwrap();
    assert_eq!(count(&second).await, 1);
}

#[tokio::test]
async fn a_database_that_compares_otherwise_is_refused() {
    let server = PostgresServer::start().await;
    server.sql(&[
        "CREATE DATABASE folds TEMPLATE template0 LC_CTYPE 'C.UTF-8'",
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'",
    ]);
    let directory = tempfile::tempdir().unwrap();
    for (database, problem) in [
        (
            "folds",
            "it orders and compares texts by the rules of C and C.UTF-8; create it with `",
        ),
        (
            "latin",
            "its encoding is LATIN1; create it with `CREATE DATABASE … TEMPLATE template0",
        ),
    ] {
        let url = server.url().replace("/postgres?", &format!("/{database}?"));
        let mut config = StoreConfig::new(directory.path());
        config.database = DatabaseConfig::Postgres(PostgresConfig::parse(&url).unwrap());
        let refused = open(&config).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unfit { .. }));
        assert!(refused.to_string().contains(problem), "{refused}");
    }
}

#[tokio::test]
async fn connections_that_are_lost_are_replaced() {
    let mut place = TestDatabase::new(Database::Postgres).await;
    let store = open(&place.config()).await.unwrap();
    insert(&store, "a").await.unwrap();
    for name in ["b", "c"] {
        place.server().unwrap().sql(&[CUT]);
        assert_eq!(count(&store).await, i64::from(name == "c") + 1);
        let again = async || insert(&store, name).await.ok();
        wait_for("the lock is back", again, LIMIT).await;
    }
    place.server().unwrap().stop();
    let refused = insert(&store, "lost").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    assert!(store.get::<Zone>("a").await.is_err());
    place.server().unwrap().start_again().await;
    let again = async || insert(&store, "d").await.ok();
    wait_for("the server is back", again, LIMIT).await;
    assert_eq!(count(&store).await, 4);
}

#[tokio::test]
async fn who_lost_the_database_to_another_writes_no_more() {
    let mut place = TestDatabase::new(Database::Postgres).await;
    let store = open(&place.config()).await.unwrap();
    insert(&store, "a").await.unwrap();
    // What another node does first of all, once the lock was free.
    place
        .server()
        .unwrap()
        .sql(&["UPDATE writing_node SET epoch = epoch + 1"]);
    for name in ["b", "c"] {
        let refused = insert(&store, name).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotOwner { .. }));
        let words = refused.to_string();
        assert!(
            words.contains("another node has written to it; restart this node"),
            "{words}"
        );
    }
    assert_eq!(count(&store).await, 1);
}

/// What happens to the connection of the first commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// The server gets it, its answer is lost.
    After,
    /// The server does not get it.
    Before,
}

/// Stands between a store and its server, and cuts one connection when it commits.
struct Between {
    cuts: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Between {
    fn start(at: &Path, server: &Path, cut: Cut) -> Self {
        let name = ".s.PGSQL.5432";
        let listener = UnixListener::bind(at.join(name)).unwrap();
        let server = server.join(name);
        let cuts = Arc::new(AtomicU32::new(0));
        let mut task = JoinSet::new();
        let left = Arc::clone(&cuts);
        task.spawn(async move {
            let mut pairs = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // While the server is away, the client hears that from us.
                if let Ok(server) = UnixStream::connect(&server).await {
                    pairs.spawn(Self::pass(client, server, Arc::clone(&left), cut));
                }
            }
        });
        Self { cuts, _task: task }
    }

    async fn pass(client: UnixStream, server: UnixStream, left: Arc<AtomicU32>, cut: Cut) {
        let ((mut from, mut to), (mut answers, mut asks)) =
            (client.into_split(), server.into_split());
        let mut back = JoinSet::new();
        back.spawn(async move {
            let _ = tokio::io::copy(&mut answers, &mut to).await;
        });
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..length];
            let commit = bytes.ends_with(b"COMMIT\0") && !bytes.ends_with(b"epoch::text; COMMIT\0");
            let one = |left: u32| left.checked_sub(1);
            let cuts = commit
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one)
                    .is_ok();
            if cuts {
                back.shutdown().await;
            }
            if !cuts || cut == Cut::After {
                asks.write_all(bytes).await.unwrap();
            }
            if cuts {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    for cut in [Cut::After, Cut::Before] {
        let mut place = TestDatabase::new(Database::Postgres).await;
        let at = tempfile::tempdir().unwrap();
        let url = format!("postgres://cairn@/postgres?host={}", at.path().display());
        let directory = place.server().unwrap().directory().to_owned();
        let between = Between::start(at.path(), &directory, cut);
        let mut config = place.config();
        config.database = DatabaseConfig::Postgres(PostgresConfig::parse(&url).unwrap());
        let store = open(&config).await.unwrap();
        insert(&store, "a").await.unwrap();

        between.cuts.store(1, Ordering::SeqCst);
        // Run again after it was kept, it would find that there is such a row already.
        insert(&store, "b").await.unwrap();
        assert_eq!(between.cuts.load(Ordering::SeqCst), 0, "{cut:?}");
        assert_eq!(count(&store).await, 2, "{cut:?}");
        insert(&store, "c").await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_user_or_database_is_told_without_a_password() {
    let server = PostgresServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    for (from, to, problem) in [
        ("cairn@", "nobody:secret@", "role \"nobody\" does not exist"),
        ("/postgres?", "/none?", "database \"none\" does not exist"),
    ] {
        let url = server.url().replace(from, to);
        let mut config = StoreConfig::new(directory.path());
        config.database = DatabaseConfig::Postgres(PostgresConfig::parse(&url).unwrap());
        let refused = chain(&open(&config).await.unwrap_err());
        assert!(refused.starts_with("connect to database "), "{refused}");
        assert!(
            refused.contains(problem) && !refused.contains("secret"),
            "{refused}"
        );
    }
}
