//! Opening a database: the lock, migrations, and the comparison with the descriptors.

use std::{error::Error as _, sync::Arc};

use cairn_proto::meta::Catalog;
use cairn_store::{Migration, Store, StoreConfig, StoreError};
use cairn_testkit::{Database, TestDatabase, on_both_databases, tables_of};
use cairn_types::{Coded as _, ErrorCode};

use crate::built_in;

on_both_databases!(
    migrations_are_applied_once_and_must_stay_as_they_are,
    a_migration_that_fails_leaves_nothing,
    tables_made_from_descriptors_fit_them,
    the_order_of_queries_has_an_index,
    a_table_that_does_not_fit_its_descriptor_is_told,
);

fn migration(number: u32, sql: &'static str) -> Migration {
    Migration {
        service: "fruit",
        number,
        name: "apples",
        sql,
    }
}

async fn open(config: &StoreConfig, migrations: &[Migration]) -> Result<Store, StoreError> {
    Store::open(config, Catalog::built_in(), migrations).await
}

/// Opens, closes, and tells the error.
async fn problem(config: &StoreConfig, migrations: &[Migration]) -> Option<String> {
    match open(config, migrations).await {
        Ok(store) => {
            store.close().await;
            None
        }
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::Store);
            Some(error.to_string())
        }
    }
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/on/the/way");
    let config = StoreConfig::new(&path);
    let first = open(&config, &[]).await.unwrap();
    let second = problem(&config, &[]).await.unwrap();
    let expected = format!(
        "data directory {} is in use by another process",
        path.display()
    );
    assert!(second.starts_with(&expected), "{second}");
    first.close().await;
    assert_eq!(problem(&config, &[]).await, None);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = open(&StoreConfig::new(&file), &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("use data directory {}", file.display())
    );
    assert!(error.source().is_some());
}

async fn migrations_are_applied_once_and_must_stay_as_they_are(database: Database) {
    let place = TestDatabase::new(database).await;
    let config = &place.config();
    let one = migration(
        1,
        "CREATE TABLE apple (n BIGINT); INSERT INTO apple VALUES (1);",
    );
    let two = migration(2, "INSERT INTO apple VALUES (2)");
    assert_eq!(problem(config, &[one]).await, None);
    assert_eq!(problem(config, &[one, two]).await, None);
    let store = open(config, &[one, two]).await.unwrap();
    let rows = store
        .rows("SELECT COUNT(*) FROM apple", Vec::new())
        .await
        .unwrap();
    assert_eq!(rows[0].int(0).unwrap(), 2);
    store.close().await;

    for (migrations, expected) in [
        (
            vec![one, migration(2, "INSERT INTO apple VALUES (3)")],
            "migration fruit 2 apples: it was changed after it was applied",
        ),
        (
            vec![one],
            "migration fruit 2 apples: it is in this database, but this program does not know it",
        ),
        (
            vec![one, two, migration(4, "")],
            "migration fruit 4 apples: its number should be 3",
        ),
    ] {
        let found = problem(config, &migrations).await.unwrap();
        assert!(found.starts_with(expected), "{found}");
    }
}

async fn a_migration_that_fails_leaves_nothing(database: Database) {
    let place = TestDatabase::new(database).await;
    let config = &place.config();
    let broken = migration(
        1,
        "CREATE TABLE apple (n BIGINT); INSERT INTO pear VALUES (1)",
    );
    let found = problem(config, &[broken]).await.unwrap();
    assert_eq!(
        found,
        "migration fruit 1 apples: it failed and was rolled back"
    );
    assert_eq!(
        problem(config, &[migration(1, "CREATE TABLE apple (n BIGINT)")]).await,
        None
    );
}

async fn tables_made_from_descriptors_fit_them(database: Database) {
    let store = built_in(database).await;
    assert_eq!(store.schema_problems().await.unwrap(), [""; 0]);
    assert_eq!(
        store.resources().count(),
        store.catalog().resources().count()
    );
}

async fn the_order_of_queries_has_an_index(database: Database) {
    let store = built_in(database).await;
    let explain = match database {
        Database::Sqlite => "EXPLAIN QUERY PLAN",
        Database::Postgres => "EXPLAIN",
    };
    for order in ["ASC NULLS FIRST, uuid ASC", "DESC NULLS LAST, uuid DESC"] {
        let sql = format!("{explain} SELECT name FROM zone ORDER BY create_time {order} LIMIT 5");
        let plan = store.write(move |tx| {
            let sql = sql.clone();
            Box::pin(async move { tx.rows(&sql, Vec::new()).await })
        });
        let plan: Result<_, StoreError> = plan.await;
        let plan = format!("{:?}", plan.unwrap());
        assert!(plan.contains("zone_by_create_time"), "{plan}");
        assert!(!plan.contains("Sort") && !plan.contains("B-TREE"), "{plan}");
    }
}

async fn a_table_that_does_not_fit_its_descriptor_is_told(database: Database) {
    let catalog = Catalog::built_in();
    let mut tables = tables_of([&**catalog.resource("zone").unwrap()]);
    let sql = tables.sql;
    for (from, to) in [
        ("\"description\" TEXT NOT NULL", "\"remark\" TEXT NOT NULL"),
        ("\"name\" TEXT NOT NULL", "\"name\" TEXT"),
        ("\"create_time\" BIGINT", "\"create_time\" BIGINT NOT NULL"),
        ("\"state\" TEXT", "\"state\" BIGINT"),
        (" PRIMARY KEY", ""),
    ] {
        assert!(sql.contains(from), "{from} in {sql}");
        tables.sql = tables.sql.replacen(from, to, 1).leak();
    }
    let place = TestDatabase::new(database).await;
    let store = place.open(Arc::clone(&catalog), &[tables]).await;
    assert_eq!(
        store.schema_problems().await.unwrap(),
        [
            "zone.create_time is NOT NULL, the field wants NULL where it has no value",
            "zone.description is missing",
            "zone.name is nullable, the field wants NOT NULL",
            "zone.remark is no field",
            "zone.state is BIGINT, the field wants TEXT",
            "zone.uuid: the primary key is uuid and nothing else",
        ]
    );
    let absent = store.get::<cairn_proto::compute::v1alpha1::Host>("x").await;
    assert!(matches!(absent, Err(StoreError::NoTable(noun)) if noun == "host"));
}
