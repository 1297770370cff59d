//! What is refused, how that is said, and what is as before.

use cairn_proto::storage::v1alpha1::{
    AttachPrimaryStorageToClusterRequest, CreateImageRequest, CreatePrimaryStorageRequest,
    DeleteImageRequest, DeletePrimaryStorageRequest, DetachPrimaryStorageFromClusterRequest,
    PrimaryStorageType,
};
use cairn_testkit::{Database, on_both_databases};
use cairn_types::ErrorCode;

use super::*;

on_both_databases!(
    wrong_fields_are_named,
    a_storage_is_attached_once_and_in_its_zone,
    a_host_that_cannot_say_what_it_has_fails_the_attachment,
    volumes_keep_their_image_and_their_place,
);

fn attach(storage: &PrimaryStorage, cluster: &str) -> AttachPrimaryStorageToClusterRequest {
    AttachPrimaryStorageToClusterRequest {
        uuid: storage.uuid.clone(),
        cluster_uuid: cluster.to_owned(),
    }
}

fn detach(storage: &PrimaryStorage, cluster: &str) -> DetachPrimaryStorageFromClusterRequest {
    DetachPrimaryStorageFromClusterRequest {
        uuid: storage.uuid.clone(),
        cluster_uuid: cluster.to_owned(),
    }
}

async fn wrong_fields_are_named(database: Database) {
    let fixture = Fixture::new(database).await;
    let create = CreatePrimaryStorageRequest {
        name: "pool".to_owned(),
        zone_uuid: fixture.zone.clone(),
        r#type: PrimaryStorageType::Local.into(),
        path: "/pool".to_owned(),
        ..CreatePrimaryStorageRequest::default()
    };
    let made = ended(fixture.storages.create_primary_storage(create.clone()))
        .await
        .unwrap();
    assert_eq!(made.state(), ResourceState::Enabled);
    let wrong = CreatePrimaryStorageRequest {
        r#type: 0,
        path: "pool".to_owned(),
        ..create
    };
    let fault = ended(fixture.storages.create_primary_storage(wrong))
        .await
        .unwrap_err();
    let fields: Vec<_> = fault
        .fields
        .iter()
        .map(|(f, p)| format!("{f} {p}"))
        .collect();
    let expected = [
        "type is missing; give one of Local",
        "path is `pool`; give an absolute path, as in /var/lib/cairn/pool",
    ];
    assert_eq!(fields, expected);

    let create = CreateImageRequest {
        name: "debian".to_owned(),
        url: "https://images.example/debian.qcow2".to_owned(),
        sha256: "AB".repeat(32),
        backup_storage_uuid: uuid(),
        ..CreateImageRequest::default()
    };
    let fault = ended(fixture.images.create_image(create.clone())).await;
    let fields = fault.unwrap_err().fields;
    assert_eq!(fields[0].0, "backup_storage_uuid");
    for size_bytes in [(1 << 20) - 1, (16 << 40) + 1] {
        let wrong = CreateImageRequest {
            url: "ftp://images.example/debian.qcow2".to_owned(),
            size_bytes: Some(size_bytes),
            sha256: "ab".to_owned(),
            ..create.clone()
        };
        let fault = ended(fixture.images.create_image(wrong)).await.unwrap_err();
        let fields: Vec<_> = fault.fields.iter().map(|(field, _)| &**field).collect();
        assert_eq!(fields, ["url", "size_bytes", "sha256"]);
    }
}

async fn a_storage_is_attached_once_and_in_its_zone(database: Database) {
    let fixture = Fixture::new(database).await;
    let storage = fixture.storage().await;
    for _ in 0..2 {
        let request = attach(&storage, &fixture.cluster);
        ended(fixture.storages.attach_primary_storage_to_cluster(request))
            .await
            .unwrap();
        assert_eq!(fixture.count("primary_storage_attachment").await, 1);
    }
    let (zone, cluster) = (uuid(), uuid());
    fixture.cluster(&cluster, &zone).await;
    let request = attach(&storage, &cluster);
    let fault = ended(fixture.storages.attach_primary_storage_to_cluster(request))
        .await
        .unwrap_err();
    assert_eq!(fault.fields[0].0, "cluster_uuid");
    let request = attach(&storage, &uuid());
    let fault = ended(fixture.storages.attach_primary_storage_to_cluster(request))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::NotFound);

    let request = DeletePrimaryStorageRequest {
        uuid: storage.uuid.clone(),
    };
    let fault = ended(fixture.storages.delete_primary_storage(request.clone()))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    for _ in 0..2 {
        let request = detach(&storage, &fixture.cluster);
        ended(
            fixture
                .storages
                .detach_primary_storage_from_cluster(request),
        )
        .await
        .unwrap();
    }
    ended(fixture.storages.delete_primary_storage(request))
        .await
        .unwrap();
}

async fn a_host_that_cannot_say_what_it_has_fails_the_attachment(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, host) = (fixture.storage().await, fixture.host().await);
    let request = attach(&storage, &fixture.cluster);
    let fault = ended(fixture.storages.attach_primary_storage_to_cluster(request))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::AgentUnreachable);
    assert_eq!(fault.resource, Some(("host".to_owned(), host.to_string())));
    assert_eq!(fixture.count("primary_storage_attachment").await, 0);
}

async fn volumes_keep_their_image_and_their_place(database: Database) {
    let fixture = Fixture::new(database).await;
    let (storage, image) = (fixture.storage().await, fixture.image(GIB).await);
    let request = attach(&storage, &fixture.cluster);
    ended(fixture.storages.attach_primary_storage_to_cluster(request))
        .await
        .unwrap();
    let host = fixture.host().await;
    fixture.learn(&storage, host, 10 * GIB, 10 * GIB).await;
    let volume = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap();
    fixture.cached(&image, &storage, host).await;

    // Nothing runs there: it can be detached, and all that the volume needs is kept.
    let request = detach(&storage, &fixture.cluster);
    let call = fixture
        .storages
        .detach_primary_storage_from_cluster(request.clone());
    ended(call).await.unwrap();
    assert_eq!(fixture.count("primary_storage_host").await, 0);
    assert_eq!(fixture.count("primary_storage_capacity").await, 1);
    let fault = fixture
        .allocate(fixture.allocation(&image, host))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfCapacity, "{fault:?}");
    let uuid = image.uuid.clone();
    let fault = ended(fixture.images.delete_image(DeleteImageRequest { uuid }))
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InUse);
    assert_eq!(fixture.count("image_cache").await, 1);
    assert_eq!(fixture.space().await.1, 9 * GIB);

    // With the last volume it goes. Its agent does not answer, so the host keeps the file; that
    // holds nothing up.
    fixture.release(&volume.uuid).await.unwrap();
    assert_eq!(fixture.count("image_cache").await, 0);
    let uuid = image.uuid.clone();
    ended(fixture.images.delete_image(DeleteImageRequest { uuid }))
        .await
        .unwrap();
    for table in [
        "primary_storage_attachment",
        "primary_storage_capacity",
        "primary_storage_host",
    ] {
        assert_eq!(fixture.count(table).await, 0, "{table}");
    }
}
