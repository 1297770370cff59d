//! Reads beside writes, and beside reads that take long.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use cairn_proto::compute::v1alpha1::Zone;
use cairn_store::{Store, StoreError, Value};
use cairn_testkit::{Database, on_both_databases};
use tokio::{sync::Notify, task::JoinSet};

use crate::{built_in, writing::Held, zone};

on_both_databases!(
    each_place_of_a_statement_gets_a_value,
    a_snapshot_is_of_one_moment_and_changes_nothing,
    a_row_that_is_lent_is_kept_by_taking_it,
);

/// More rows than anyone waits for.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
    SELECT i FROM n LIMIT 100000000";

async fn insert(store: &Store, uuid: &'static str) {
    let inserted = store.write(move |tx| Box::pin(async move { tx.insert(&zone(uuid)).await }));
    let inserted: Result<(), StoreError> = inserted.await;
    inserted.unwrap();
}

async fn names(store: &Store) -> (String, String) {
    let point = store.get::<Zone>("a").await.unwrap().unwrap();
    let listed = store.list::<Zone>("name <> ?", vec!["".into()]).await;
    (point.name, listed.unwrap().remove(0).name)
}

#[tokio::test]
async fn what_is_read_during_a_write_is_what_was_before() {
    let store = built_in(Database::Sqlite).await;
    insert(&store, "a").await;
    let held = Held::of(Database::Sqlite, &store).await;
    let (point, listed) = names(&store).await;
    assert_eq!((&*point, &*listed), ("east", "east"));
    Held::release(held).await;
    let (point, listed) = names(&store).await;
    assert_eq!((&*point, &*listed), ("held", "held"));
}

#[tokio::test]
async fn reads_that_take_long_hold_up_neither_a_look_up_nor_a_write_nor_the_end() {
    let store = built_in(Database::Sqlite).await;
    insert(&store, "a").await;
    // As many as there are connections, and one that waits for one.
    let mut reads = JoinSet::new();
    for _ in 0..5 {
        let store = Store::clone(&store);
        reads.spawn(async move { store.rows(ENDLESS, vec![]).await });
    }
    tokio::task::yield_now().await;
    assert!(store.get::<Zone>("a").await.unwrap().is_some());
    insert(&store, "b").await;
    assert!(store.get::<Zone>("b").await.unwrap().is_some());
    assert!(reads.try_join_next().is_none(), "they go on");
    reads.shutdown().await;
    // It waits for those that read: they have ended with their callers.
    store.close().await;
    assert!(matches!(
        store.get::<Zone>("a").await,
        Err(StoreError::Closed)
    ));
}

async fn each_place_of_a_statement_gets_a_value(database: Database) {
    let store = built_in(database).await;
    for values in [vec![], vec![Value::from("a"), Value::from("b")]] {
        let many = values.len();
        let error = store.list::<Zone>("name = ?", values).await.unwrap_err();
        let said = cairn_types::chain(&error).to_string();
        assert!(
            said.contains(&format!("{many} values for 1 places")),
            "{said}"
        );
    }
}

async fn a_snapshot_is_of_one_moment_and_changes_nothing(database: Database) {
    let store = built_in(database).await;
    insert(&store, "a").await;
    let (seen, writer) = (Arc::new(Notify::new()), Store::clone(&store));
    let writes = {
        let seen = Arc::clone(&seen);
        async move {
            seen.notified().await;
            insert(&writer, "b").await;
        }
    };
    let (written, wait) = std::sync::mpsc::sync_channel(1);
    let reads = {
        let wait = Arc::new(Mutex::new(wait));
        store.snapshot(move |tx| {
            let (seen, wait) = (Arc::clone(&seen), Arc::clone(&wait));
            Box::pin(async move {
                let before = tx.list::<Zone>("", vec![]).await?.len();
                seen.notify_one();
                if database == Database::Sqlite {
                    // It has a thread for itself.
                    wait.lock().unwrap().recv().unwrap();
                }
                let after = tx.list::<Zone>("", vec![]).await?.len();
                Ok::<_, StoreError>((before, after))
            })
        })
    };
    let writes = async {
        writes.await;
        // On PostgreSQL nobody waits for it.
        let _ = written.send(());
    };
    let (read, ()) = tokio::join!(reads, writes);
    let (before, after) = read.unwrap();
    assert_eq!(before, after);

    let changed = store.snapshot(|tx| Box::pin(async move { tx.insert(&zone("c")).await }));
    assert!(changed.await.is_err());
    let gone = store.snapshot(|_| Box::pin(async { Err::<(), _>(StoreError::Aborted) }));
    assert!(matches!(gone.await, Err(StoreError::Aborted)));
    let panicked = store.snapshot::<(), StoreError, _>(|_| Box::pin(async { panic!("no") }));
    assert!(matches!(panicked.await, Err(StoreError::Panicked(_))));
    // The connections are as they were.
    let all = store.snapshot(|tx| Box::pin(async move { tx.list::<Zone>("", vec![]).await }));
    assert_eq!(all.await.unwrap().len(), 2);
    assert_eq!(store.list::<Zone>("", vec![]).await.unwrap().len(), 2);
    store.close().await;
    let closed = store.snapshot(|_| Box::pin(async { Ok::<(), StoreError>(()) }));
    assert!(matches!(closed.await, Err(StoreError::Closed)));
}

async fn a_row_that_is_lent_is_kept_by_taking_it(database: Database) {
    const SQL: &str =
        "SELECT * FROM (VALUES ('one', 1), ('to', 2), (NULL, 3), ('three', 4)) v ORDER BY 2";
    let store = built_in(database).await;
    let read = store.snapshot(|tx| {
        Box::pin(async move {
            let (mut kept, mut texts) = (Vec::new(), Vec::new());
            tx.each(SQL, vec![], |row| {
                texts.push(row.opt_text(0)?);
                if row.int(1)? % 2 == 0 {
                    kept.push(mem::take(row));
                }
                Ok(())
            })
            .await?;
            let mut seen = 0;
            let ended = tx.each(SQL, vec![], |row| {
                seen += 1;
                row.text_ref(0).map(drop)
            });
            let ended = ended.await.unwrap_err();
            assert!(matches!(ended, StoreError::Column { column: 0, .. }));
            // An error of the visit ends the reading, and not the transaction.
            let rows = tx.rows(SQL, vec![]).await?;
            Ok::<_, StoreError>((kept, texts, seen, rows))
        })
    });
    let (kept, texts, seen, rows) = read.await.unwrap();
    let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
    assert_eq!(texts, [Some("one"), Some("to"), None, Some("three")]);
    assert_eq!(kept, [rows[1].clone(), rows[3].clone()]);
    assert_eq!(seen, 3);
}
