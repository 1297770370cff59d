//! Writes that share a transaction, and what one may not do to another.

use std::sync::mpsc;

use cairn_proto::compute::v1alpha1::{Cluster, Zone};
use cairn_store::{Store, StoreError, Tx, Value};
use cairn_testkit::{Database, on_both_databases};
use futures::{FutureExt as _, future::join_all};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{built_in, cluster, zone};

on_both_databases!(
    an_error_or_a_panic_undoes_its_own_write_only,
    of_writes_that_may_not_both_be_one_is_refused,
    a_transaction_that_is_lost_is_lost_for_all_and_for_nobody_after,
    a_statement_that_fails_leaves_its_write_usable,
    a_write_whose_caller_left_before_it_began_is_not_made,
    what_waits_is_written_before_the_store_closes,
    a_row_lives_from_insert_to_delete,
    those_who_refer_are_counted_by_noun,
);
on_both_databases!(
    multi_thread: no_increment_of_200_writers_is_lost,
    who_looks_before_it_inserts_meets_nobody,
);

async fn add_one(tx: &mut Tx) -> Result<i64, StoreError> {
    let rows = tx.rows("SELECT value FROM counter", Vec::new()).await?;
    let next = rows[0].int(0)? + 1;
    let set = "UPDATE counter SET value = ?";
    tx.execute(set, vec![Value::from(next)]).await?;
    Ok(next)
}

async fn counter(store: &Store) {
    let made = store.write(|tx| {
        Box::pin(async move {
            tx.execute("CREATE TABLE counter (value BIGINT)", Vec::new())
                .await?;
            let changed = tx
                .execute("INSERT INTO counter VALUES (0)", Vec::new())
                .await?;
            assert_eq!(changed, 1);
            Ok::<_, StoreError>(())
        })
    });
    made.await.unwrap();
}

async fn count(store: &Store) -> i64 {
    let rows = store.rows("SELECT value FROM counter", Vec::new()).await;
    rows.unwrap()[0].int(0).unwrap()
}

/// A write that adds one and then does as `end` says.
async fn add_then(
    store: &Store,
    end: fn(i64) -> Result<i64, StoreError>,
) -> Result<i64, StoreError> {
    store
        .write(move |tx| Box::pin(async move { end(add_one(tx).await?) }))
        .await
}

/// SQLite's writer, busy until [`Held::release`]: what is written meanwhile waits, and is one batch.
/// Those that write to PostgreSQL share the thread of their test, so there it is so by itself.
pub(crate) struct Held {
    release: mpsc::Sender<()>,
    ended: JoinSet<Result<(), StoreError>>,
}

impl Held {
    /// Changes something first, which is not committed before its release.
    pub(crate) async fn of(database: Database, store: &Store) -> Option<Self> {
        if database == Database::Postgres {
            return None;
        }
        let (release, released) = mpsc::channel();
        let (begin, begun) = oneshot::channel();
        let (store, mut begin) = (store.clone(), Some(begin));
        let mut ended = JoinSet::new();
        ended.spawn(async move {
            let held = store.write(move |tx| {
                let (begin, released) = (begin.take(), &released);
                // The transaction is begun, and nothing is awaited that is not ready.
                let changed = tx
                    .execute("UPDATE zone SET name = 'held'", vec![])
                    .now_or_never();
                begin.unwrap().send(changed.unwrap()).unwrap();
                let _ = released.recv();
                Box::pin(async { Ok(()) })
            });
            held.await
        });
        begun.await.unwrap().unwrap();
        Some(Self { release, ended })
    }

    pub(crate) async fn release(held: Option<Self>) {
        if let Some(Self { release, mut ended }) = held {
            drop(release);
            ended.join_next().await.unwrap().unwrap().unwrap();
        }
    }
}

async fn no_increment_of_200_writers_is_lost(database: Database) {
    let store = built_in(database).await;
    counter(&store).await;
    let mut seen: Vec<_> = join_all((0..200).map(|_| add_then(&store, Ok)))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    assert_eq!(count(&store).await, 200);
}

/// That another one inserted what was not there is seen by all who looked before.
async fn who_looks_before_it_inserts_meets_nobody(database: Database) {
    let store = built_in(database).await;
    let unless_there = || {
        store.write(|tx| {
            Box::pin(async move {
                if tx.get::<Zone>("a").await?.is_none() {
                    tx.insert(&zone("a")).await?;
                }
                Ok::<_, StoreError>(())
            })
        })
    };
    for outcome in join_all((0..64).map(|_| unless_there())).await {
        outcome.unwrap();
    }
    let again = store.write(|tx| Box::pin(async move { tx.insert(&zone("a")).await }));
    let again: Result<(), StoreError> = again.await;
    assert!(matches!(again, Err(StoreError::AlreadyExists { .. })));
}

async fn an_error_or_a_panic_undoes_its_own_write_only(database: Database) {
    let store = built_in(database).await;
    counter(&store).await;
    let ends: [fn(i64) -> Result<i64, StoreError>; 3] = [
        Ok,
        |_| Err(StoreError::NoTable("x".to_owned())),
        |n| panic!("at {n}"),
    ];
    let held = Held::of(database, &store).await;
    let writes = join_all((0..9).map(|i| add_then(&store, ends[i % 3])));
    let (outcomes, ()) = futures::join!(writes, Held::release(held));
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.map_err(|error| error.to_string()))
        .collect();
    let mut kept = Vec::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match (number % 3, outcome) {
            (0, Ok(n)) => kept.push(n),
            (1, Err(error)) => assert_eq!(error, "there is no table for `x` in this database"),
            // What the others did before it, in whatever order they came.
            (2, Err(error)) => assert!(error.starts_with("the write panicked: at "), "{error}"),
            (_, outcome) => panic!("write {number} ended in {outcome:?}"),
        }
    }
    kept.sort_unstable();
    assert_eq!(kept, [1, 2, 3]);
    assert_eq!(count(&store).await, 3);

    // The same without others in the transaction.
    assert!(add_then(&store, ends[1]).await.is_err());
    assert!(add_then(&store, ends[2]).await.is_err());
    assert_eq!(add_then(&store, Ok).await.unwrap(), 4);
    assert_eq!(count(&store).await, 4);
}

/// As SQLite itself does when the disk is full; PostgreSQL only if a closure says so.
async fn lose_the_transaction(store: &Store) -> Result<i64, StoreError> {
    let lost = store.write(|tx| {
        Box::pin(async move {
            add_one(tx).await?;
            tx.execute("ROLLBACK", Vec::new()).await?;
            Ok(0)
        })
    });
    lost.await
}

async fn a_transaction_that_is_lost_is_lost_for_all_and_for_nobody_after(database: Database) {
    let store = built_in(database).await;
    counter(&store).await;
    let mut kept = 0;
    for _ in 0..2 {
        let held = Held::of(database, &store).await;
        let outcomes = futures::join!(
            add_then(&store, Ok),
            lose_the_transaction(&store),
            add_then(&store, Ok),
            Held::release(held),
        );
        assert!(matches!(outcomes.1, Err(StoreError::Commit { .. })));
        for outcome in [outcomes.0, outcomes.2] {
            match (database, outcome) {
                // They shared the transaction.
                (Database::Sqlite, Err(StoreError::Commit { .. })) => {}
                (Database::Postgres, Ok(_)) => kept += 1,
                (_, outcome) => panic!("ended in {outcome:?}"),
            }
        }
        let alone = lose_the_transaction(&store).await;
        assert!(matches!(alone, Err(StoreError::Commit { .. })));
    }
    assert_eq!(count(&store).await, kept);
    assert_eq!(add_then(&store, Ok).await.unwrap(), kept + 1);
}

async fn a_statement_that_fails_leaves_its_write_usable(database: Database) {
    let store = built_in(database).await;
    let outcome = store.write(|tx| {
        Box::pin(async move {
            tx.insert(&zone("a")).await?;
            let twice = tx.insert(&zone("a")).await.unwrap_err();
            let words = twice.to_string();
            assert!(words.starts_with("there is zone a already ("), "{words}");
            let wrong = tx
                .execute("INSERT INTO nothing VALUES (1)", Vec::new())
                .await;
            assert!(matches!(wrong, Err(StoreError::Statement { .. })));
            tx.insert(&zone("b")).await
        })
    });
    outcome.await.unwrap();
    // It may also go on without a further statement, or end in that error.
    for expected in [Ok(()), Err(())] {
        let outcome = store.write(move |tx| {
            Box::pin(async move {
                tx.insert(&zone("c")).await?;
                match (tx.insert(&zone("c")).await, expected) {
                    (Err(StoreError::AlreadyExists { .. }), Ok(())) => Ok(()),
                    (outcome, _) => outcome,
                }
            })
        });
        let outcome = outcome.await;
        assert_eq!(outcome.is_ok(), expected.is_ok(), "{outcome:?}");
        let deleted = store.write(|tx| Box::pin(async { tx.delete::<Zone>("c").await }));
        let deleted: Result<bool, StoreError> = deleted.await;
        assert_eq!(deleted.unwrap(), expected.is_ok());
    }
    let zones: Vec<Zone> = store
        .list("name = ? ORDER BY uuid", vec!["east".into()])
        .await
        .unwrap();
    assert_eq!(zones, [zone("a"), zone("b")]);
}

async fn a_write_whose_caller_left_before_it_began_is_not_made(database: Database) {
    let store = built_in(database).await;
    counter(&store).await;
    let held = Held::of(database, &store).await;
    let write = add_then(&store, Ok);
    assert!(write.now_or_never().is_none(), "it waits for the writer");
    Held::release(held).await;
    assert_eq!(add_then(&store, Ok).await.unwrap(), 1);
}

async fn what_waits_is_written_before_the_store_closes(database: Database) {
    let store = built_in(database).await;
    counter(&store).await;
    let held = Held::of(database, &store).await;
    let (outcomes, (), (), ()) = futures::join!(
        join_all((0..50).map(|_| add_then(&store, Ok))),
        store.close(),
        // A second one waits for the first.
        store.close(),
        Held::release(held),
    );
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(matches!(
        add_then(&store, Ok).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        store.get::<Zone>("a").await,
        Err(StoreError::Closed)
    ));
}

async fn a_row_lives_from_insert_to_delete(database: Database) {
    let store = built_in(database).await;
    let outcome = store.write(|tx| {
        Box::pin(async move {
            assert!(!tx.update(&zone("a")).await?);
            tx.insert(&zone("a")).await?;
            let renamed = Zone {
                name: "west".to_owned(),
                ..zone("a")
            };
            assert!(tx.update(&renamed).await?);
            assert_eq!(tx.get::<Zone>("a").await?, Some(renamed));
            assert!(tx.delete::<Zone>("a").await?);
            assert!(!tx.delete::<Zone>("a").await?);
            tx.get::<Zone>("a").await
        })
    });
    assert_eq!(outcome.await.unwrap(), None);
}

async fn those_who_refer_are_counted_by_noun(database: Database) {
    let store = built_in(database).await;
    let outcome = store.write(|tx| {
        Box::pin(async move {
            tx.insert(&zone("a")).await?;
            for (uuid, zone) in [("x", "a"), ("y", "a"), ("z", "other")] {
                tx.insert::<Cluster>(&cluster(uuid, zone)).await?;
            }
            assert_eq!(tx.referrers("cluster", "x").await?, []);
            tx.referrers("zone", "a").await
        })
    });
    assert_eq!(outcome.await.unwrap(), [("cluster".to_owned(), 2)]);
}

/// Each looks for what the others may have written, and writes what the others look for.
async fn of_writes_that_may_not_both_be_one_is_refused(database: Database) {
    let store = built_in(database).await;
    let writes = (0..40).map(|number| {
        let uuid = format!("z{number:02}");
        store.write(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let count = tx.rows("SELECT COUNT(*) FROM zone", Vec::new()).await?;
                if count[0].int(0)? >= 3 {
                    return Ok::<_, StoreError>(false);
                }
                tx.insert(&zone(&uuid)).await?;
                Ok(true)
            })
        })
    });
    let made = join_all(writes).await;
    let made = made.into_iter().filter(|made| *made.as_ref().unwrap());
    assert_eq!(made.count(), 3);
}

/// SQLite's writer runs the closures itself, so what it waited for might wait for it.
#[tokio::test]
async fn a_write_that_waits_for_something_else_is_refused() {
    let store = built_in(Database::Sqlite).await;
    counter(&store).await;
    let inner = Store::clone(&store);
    let held = Held::of(Database::Sqlite, &store).await;
    let slept = store.write(|tx| {
        Box::pin(async move {
            add_one(tx).await?;
            std::future::pending::<()>().await;
            Ok::<_, StoreError>(())
        })
    });
    let nested = store.write(move |tx| {
        let inner = inner.clone();
        Box::pin(async move {
            add_one(tx).await?;
            add_then(&inner, Ok).await
        })
    });
    let others = (add_then(&store, Ok), add_then(&store, Ok));
    let (first, slept, nested, second, ()) =
        futures::join!(others.0, slept, nested, others.1, Held::release(held));
    assert!(matches!(slept, Err(StoreError::Waits)), "{slept:?}");
    assert!(matches!(nested, Err(StoreError::Waits)), "{nested:?}");
    assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
    assert_eq!(count(&store).await, 2);
}
