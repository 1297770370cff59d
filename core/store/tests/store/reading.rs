//! Reads beside writes, and beside reads that take long.

use cairn_proto::compute::v1alpha1::Zone;
use cairn_store::{Store, StoreError, Value};
use cairn_testkit::{Database, on_both_databases};

use crate::{built_in, writing::Held, zone};

on_both_databases!(each_place_of_a_statement_gets_a_value);

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
    let reads = (0..5).map(|_| {
        let store = Store::clone(&store);
        tokio::spawn(async move { store.rows(ENDLESS, vec![]).await })
    });
    let reads: Vec<_> = reads.collect();
    tokio::task::yield_now().await;
    assert!(store.get::<Zone>("a").await.unwrap().is_some());
    insert(&store, "b").await;
    assert!(store.get::<Zone>("b").await.unwrap().is_some());
    for read in reads {
        assert!(!read.is_finished());
        read.abort();
        assert!(read.await.unwrap_err().is_cancelled());
    }
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
