//! Volumes as rows: what is taken, given back, and by whom.

use cairn_proto::storage::{
    internal::v1alpha1::{CacheImageRequest, InstantiateVolumeRequest},
    v1alpha1::{VolumeStatus, VolumeType},
};
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;
use futures::future::join_all;

use super::*;

on_both_databases!(
    many_at_once_take_exactly_what_is_there_and_give_exactly_that_back,
    a_repeat_gets_the_same_volume,
    what_is_taken_stays_taken_when_the_file_system_changes_its_size,
    the_agent_is_asked_to_delete_only_what_it_may_have_made,
    the_last_volume_of_a_place_that_is_detached_takes_what_is_known_of_it_along,
);

async fn many_at_once_take_exactly_what_is_there_and_give_exactly_that_back(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let image = fixture.image(GIB).await;
    fixture.learn(&storage, host, 200 * GIB, 150 * GIB).await;

    let asked: Vec<_> = (0..200).map(|_| fixture.allocation(&image, host)).collect();
    let calls = asked
        .iter()
        .map(|request| fixture.allocate(request.clone()));
    let (got, refused): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((got.len(), refused.len()), (150, 50));
    assert_eq!(fixture.space().await, (200 * GIB, 0));
    let fault = refused.into_iter().next().unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfCapacity);
    let expected = format!(
        "1073741824 bytes are needed on host {host}; the primary storage with most left, {}, has \
         0 bytes",
        storage.uuid
    );
    assert_eq!(fault.message, expected);

    // Each twice, at once, with those that were never there.
    let releases = asked
        .iter()
        .chain(&asked)
        .map(|request| fixture.release(&request.uuid));
    for released in join_all(releases).await {
        released.unwrap();
    }
    assert_eq!(fixture.space().await, (200 * GIB, 150 * GIB));
    assert_eq!(fixture.count("volume").await, 0);
}

async fn a_repeat_gets_the_same_volume(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let image = fixture.image(GIB).await;
    fixture.learn(&storage, host, 10 * GIB, 10 * GIB).await;
    let request = fixture.allocation(&image, host);
    let repeats = (0..5).map(|_| fixture.allocate(request.clone()));
    let volumes = join_all(repeats).await;
    let first = volumes[0].clone().unwrap();
    assert!(volumes.iter().all(|volume| volume.as_ref() == Ok(&first)));
    assert_eq!(fixture.space().await.1, 9 * GIB);
    assert_eq!(first.r#type(), VolumeType::Root);
    assert_eq!(first.status(), VolumeStatus::NotInstantiated);
    assert_eq!(first.size_bytes, GIB);
    assert_eq!(first.host_uuid, Some(host.to_string()));
    assert_eq!(first.primary_storage_uuid, storage.uuid);
    assert_eq!(first.install_path, "");
}

async fn what_is_taken_stays_taken_when_the_file_system_changes_its_size(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let image = fixture.image(20 * GIB).await;
    fixture.learn(&storage, host, 100 * GIB, 90 * GIB).await;
    let request = fixture.allocation(&image, host);
    fixture.allocate(request.clone()).await.unwrap();
    assert_eq!(fixture.space().await, (100 * GIB, 70 * GIB));
    // What the agent calls free does not matter any more: the clone has grown a little.
    fixture.learn(&storage, host, 100 * GIB, 89 * GIB).await;
    assert_eq!(fixture.space().await, (100 * GIB, 70 * GIB));
    fixture.learn(&storage, host, 200 * GIB, 189 * GIB).await;
    assert_eq!(fixture.space().await, (200 * GIB, 170 * GIB));
    fixture.learn(&storage, host, 15 * GIB, 0).await;
    assert_eq!(fixture.space().await, (15 * GIB, 0));
    fixture.release(&request.uuid).await.unwrap();
    assert_eq!(fixture.space().await, (15 * GIB, 15 * GIB));
}

async fn the_agent_is_asked_to_delete_only_what_it_may_have_made(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let image = fixture.image(GIB).await;
    fixture.learn(&storage, host, 10 * GIB, 10 * GIB).await;
    let told = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap();
    let instantiate = |uuid: &str| InstantiateVolumeRequest {
        uuid: uuid.to_owned(),
        task_uuid: super::uuid(),
        operation_uuid: super::uuid(),
    };
    let refused = fixture
        .internal
        .instantiate_volume(instantiate(&told.uuid))
        .await;
    let fault = Fault::from_status(&refused.unwrap_err());
    let expected = format!("the image of volume {} is not cached", told.uuid);
    assert_eq!(
        (fault.code, fault.message),
        (ErrorCode::WrongState, expected)
    );

    fixture.cached(&image, &storage, host).await;
    let request = CacheImageRequest {
        volume_uuid: told.uuid.clone(),
        task_uuid: uuid(),
        operation_uuid: uuid(),
        backup_storage_uuid: String::new(),
    };
    // It is there, so nobody is asked.
    let cached = fixture.internal.cache_image(request).await.unwrap();
    assert_eq!(cached.install_path, "/pool/images/a.qcow2");

    // The command may have reached the agent: nobody knows.
    let failed = fixture
        .internal
        .instantiate_volume(instantiate(&told.uuid))
        .await;
    let fault = Fault::from_status(&failed.unwrap_err());
    assert_eq!(fault.code, ErrorCode::AgentUnreachable);
    assert_eq!(fault.resource, Some(("host".to_owned(), host.to_string())));
    let fault = fixture.release(&told.uuid).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentUnreachable);
    assert_eq!(fixture.space().await.1, 9 * GIB);

    let untold = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap();
    fixture.release(&untold.uuid).await.unwrap();
    assert_eq!(fixture.space().await.1, 9 * GIB);

    // With the host its files are gone.
    assert_eq!(fixture.execute("DELETE FROM host").await, 1);
    fixture.release(&told.uuid).await.unwrap();
    assert_eq!(fixture.space().await.1, 10 * GIB);
    assert_eq!(fixture.count("volume_file").await, 0);
}

async fn the_last_volume_of_a_place_that_is_detached_takes_what_is_known_of_it_along(
    database: Database,
) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let image = fixture.image(GIB).await;
    fixture.learn(&storage, host, 10 * GIB, 10 * GIB).await;
    let mut volumes = Vec::new();
    for _ in 0..2 {
        let volume = fixture.allocate(fixture.allocation(&image, host)).await;
        volumes.push(volume.unwrap().uuid);
    }
    fixture.cached(&image, &storage, host).await;
    assert_eq!(fixture.execute("DELETE FROM primary_storage_host").await, 1);
    fixture.release(&volumes[0]).await.unwrap();
    assert_eq!(fixture.count("image_cache").await, 1);
    // Two at once, and one that comes late, end in the same.
    let both = [&volumes[1], &volumes[1]].map(|volume| fixture.release(volume));
    for released in join_all(both).await {
        released.unwrap();
    }
    fixture.release(&volumes[1]).await.unwrap();
    for table in [
        "volume",
        "image_cache",
        "volume_copy",
        "primary_storage_capacity",
    ] {
        assert_eq!(fixture.count(table).await, 0, "{table}");
    }
}
