//! What a cascade has marked: nothing new refers to it, and what goes together does not hold each
//! other back.

use cairn_proto::compute::v1alpha1::{Cluster, Zone};
use cairn_store::{Store, StoreError};
use cairn_testkit::{Database, on_both_databases};

use crate::{built_in, cluster, zone};

on_both_databases!(
    what_is_going_takes_nothing_new,
    what_goes_together_does_not_hold_each_other_back,
    nothing_goes_by_two_plans,
);

async fn fill(store: &Store) {
    let filled = store.write(|tx| {
        Box::pin(async move {
            tx.insert(&zone("a")).await?;
            tx.insert(&zone("b")).await?;
            tx.insert(&cluster("c", "a")).await?;
            tx.insert(&cluster("d", "a")).await
        })
    });
    filled.await.unwrap();
}

async fn mark(
    store: &Store,
    plan: &'static str,
    uuids: &'static [&'static str],
) -> Result<(), StoreError> {
    let marked = store.write(move |tx| Box::pin(async move { tx.mark_going(plan, uuids).await }));
    marked.await
}

async fn clear(store: &Store, plan: &'static str) {
    let cleared = store.write(move |tx| Box::pin(async move { tx.clear_going(plan).await }));
    cleared.await.unwrap();
}

async fn add(store: &Store, uuid: &'static str, zone: &'static str) -> Result<(), StoreError> {
    let added =
        store.write(move |tx| Box::pin(async move { tx.insert(&cluster(uuid, zone)).await }));
    added.await
}

async fn what_is_going_takes_nothing_new(database: Database) {
    let store = built_in(database).await;
    fill(&store).await;
    mark(&store, "p", &["a", "a", "c"]).await.unwrap();
    let refused = add(&store, "e", "a").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cluster e refers to a, which is being deleted"
    );
    assert!(store.get::<Cluster>("e").await.unwrap().is_none());
    // Nothing of it is left, even if its write goes on.
    let caught = store.write(|tx| {
        Box::pin(async move {
            let refused = tx.insert(&cluster("e", "a")).await.unwrap_err();
            assert!(matches!(refused, StoreError::Going { .. }), "{refused}");
            tx.insert(&cluster("f", "b")).await
        })
    });
    caught.await.unwrap();
    assert!(store.get::<Cluster>("e").await.unwrap().is_none());
    assert!(store.get::<Cluster>("f").await.unwrap().is_some());

    clear(&store, "another").await;
    assert!(add(&store, "e", "a").await.is_err());
    clear(&store, "p").await;
    add(&store, "e", "a").await.unwrap();
}

async fn what_goes_together_does_not_hold_each_other_back(database: Database) {
    let store = built_in(database).await;
    fill(&store).await;
    let referrers = async || {
        let counted = store.write(|tx| Box::pin(async move { tx.referrers("zone", "a").await }));
        let counted: Result<_, StoreError> = counted.await;
        counted.unwrap()
    };
    let clusters = |count| vec![("cluster".to_owned(), count)];
    assert_eq!(referrers().await, clusters(2));
    // Going, but the zone is not.
    mark(&store, "p", &["c"]).await.unwrap();
    assert_eq!(referrers().await, clusters(2));
    mark(&store, "p", &["a"]).await.unwrap();
    assert_eq!(referrers().await, clusters(1));
    // By another plan.
    mark(&store, "q", &["d"]).await.unwrap();
    assert_eq!(referrers().await, clusters(1));
    clear(&store, "q").await;
    mark(&store, "p", &["d"]).await.unwrap();
    assert_eq!(referrers().await, []);
    assert!(store.get::<Zone>("a").await.unwrap().is_some());
}

async fn nothing_goes_by_two_plans(database: Database) {
    let store = built_in(database).await;
    fill(&store).await;
    mark(&store, "p", &["a", "c"]).await.unwrap();
    mark(&store, "p", &["a", "d"]).await.unwrap();
    let refused = mark(&store, "q", &["b", "c"]).await.unwrap_err();
    assert_eq!(refused.to_string(), "c is being deleted by cascade plan p");
    // Not even what was free.
    let going = store.write(|tx| Box::pin(async move { tx.going("b").await }));
    let going: Result<_, StoreError> = going.await;
    assert_eq!(going.unwrap(), None);
    let going = store.write(|tx| Box::pin(async move { tx.going("d").await }));
    let going: Result<_, StoreError> = going.await;
    assert_eq!(going.unwrap().as_deref(), Some("p"));
}
