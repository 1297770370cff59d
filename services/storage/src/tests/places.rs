//! Where root volumes can be, and on which storage one ends up.

use cairn_proto::storage::{
    internal::v1alpha1::{GetPlacesRequest, GetPlacesResponse},
    v1alpha1::{UpdateImageRequest, UpdatePrimaryStorageRequest},
};
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;

use super::*;

on_both_databases!(
    places_are_enabled_large_enough_and_the_largest_is_first,
    a_volume_goes_where_most_is_left,
    a_disabled_image_makes_no_volumes,
);

async fn places(fixture: &Fixture, image: &Image) -> Result<GetPlacesResponse, Fault> {
    places_of(fixture, image, &[]).await
}

async fn places_of(
    fixture: &Fixture,
    image: &Image,
    hosts: &[HostUuid],
) -> Result<GetPlacesResponse, Fault> {
    let request = GetPlacesRequest {
        image_uuid: image.uuid.clone(),
        host_uuids: hosts.iter().map(ToString::to_string).collect(),
    };
    let found = fixture.internal.get_places(request).await;
    found.map_err(|status| Fault::from_status(&status))
}

async fn places_are_enabled_large_enough_and_the_largest_is_first(database: Database) {
    let fixture = Fixture::new(database).await;
    let image = fixture.image(10 * GIB).await;
    let (small, large) = (fixture.host().await, fixture.host().await);
    let (one, two) = (fixture.storage().await, fixture.storage().await);
    fixture.learn(&one, small, 50 * GIB, 10 * GIB).await;
    fixture.learn(&one, large, 50 * GIB, 30 * GIB).await;
    fixture.learn(&two, small, 50 * GIB, 20 * GIB).await;
    fixture.learn(&two, large, 50 * GIB, 10 * GIB - 1).await;

    let found = places(&fixture, &image).await.unwrap();
    assert_eq!(found.size_bytes, 10 * GIB);
    let seen: Vec<_> = found
        .places
        .iter()
        .map(|place| {
            (
                &*place.primary_storage_uuid,
                &*place.host_uuid,
                place.available_bytes,
            )
        })
        .collect();
    let on_large = places_of(&fixture, &image, &[large, HostUuid::generate()]).await;
    let on_large = on_large.unwrap().places;
    assert_eq!((on_large.len(), on_large[0].available_bytes), (1, 30 * GIB));
    let (small, large) = (small.to_string(), large.to_string());
    let expected = [
        (&*one.uuid, &*large, 30 * GIB),
        (&*two.uuid, &*small, 20 * GIB),
        (&*one.uuid, &*small, 10 * GIB),
    ];
    assert_eq!(seen, expected);
    assert!(
        found
            .places
            .iter()
            .all(|place| place.cluster_uuid == fixture.cluster)
    );

    let disable = UpdatePrimaryStorageRequest {
        uuid: two.uuid.clone(),
        state: Some(ResourceState::Disabled.into()),
        ..UpdatePrimaryStorageRequest::default()
    };
    ended(fixture.storages.update_primary_storage(disable))
        .await
        .unwrap();
    let found = places(&fixture, &image).await.unwrap().places;
    assert!(
        found
            .iter()
            .all(|place| place.primary_storage_uuid == one.uuid)
    );
}

async fn a_volume_goes_where_most_is_left(database: Database) {
    let fixture = Fixture::new(database).await;
    let image = fixture.image(10 * GIB).await;
    let host = fixture.host().await;
    let (one, two) = (fixture.storage().await, fixture.storage().await);
    fixture.learn(&one, host, 50 * GIB, 25 * GIB).await;
    fixture.learn(&two, host, 50 * GIB, 18 * GIB).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let volume = fixture
            .allocate(fixture.allocation(&image, host))
            .await
            .unwrap();
        seen.push(volume.primary_storage_uuid);
    }
    // 25 and 18, 15 and 18, 15 and 8, 5 and 8.
    assert_eq!(seen, [&*one.uuid, &*two.uuid, &*one.uuid]);
    let fault = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfCapacity);
    let elsewhere = HostUuid::generate();
    let fault = fixture
        .allocate(fixture.allocation(&image, elsewhere))
        .await
        .unwrap_err();
    let expected =
        format!("host {elsewhere} has no enabled primary storage; 10737418240 bytes are needed");
    assert_eq!(fault.message, expected);
}

async fn a_disabled_image_makes_no_volumes(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    fixture.learn(&storage, host, 50 * GIB, 50 * GIB).await;
    let image = fixture.image(GIB).await;
    let disable = UpdateImageRequest {
        uuid: image.uuid.clone(),
        state: Some(ResourceState::Disabled.into()),
        ..UpdateImageRequest::default()
    };
    ended(fixture.images.update_image(disable)).await.unwrap();
    let fault = places(&fixture, &image).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);
    let fault = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState);
    assert_eq!(fixture.space().await.1, 50 * GIB);
}
