//! Backup storages: who is let in, what is learned, and what becomes of virtual machines when a
//! server is away.

use cairn_e2e::{Cloud, backup_storage_request};
use cairn_proto::{
    event::result,
    fault::Fault,
    storage::v1alpha1::{
        BackupStorage, BackupStorageClient, BackupStorageStatus, CreateBackupStorageRequest,
        GetBackupStorageRequest, ReconnectBackupStorageRequest, UpdateBackupStorageRequest,
    },
};
use cairn_testkit::SftpServer;
use cairn_types::ErrorCode;

async fn create(
    cloud: &Cloud,
    request: CreateBackupStorageRequest,
) -> Result<BackupStorage, Fault> {
    let storages = BackupStorageClient::new(cloud.mesh());
    let created = async { result(storages.create_backup_storage(request).await?).await };
    created.await.map_err(|status| Fault::from_status(&status))
}

async fn update(
    cloud: &Cloud,
    request: UpdateBackupStorageRequest,
) -> Result<BackupStorage, Fault> {
    let storages = BackupStorageClient::new(cloud.mesh());
    let updated = async { result(storages.update_backup_storage(request).await?).await };
    updated.await.map_err(|status| Fault::from_status(&status))
}

async fn reconnect(cloud: &Cloud, uuid: &str) -> Result<BackupStorage, Fault> {
    let (storages, uuid) = (BackupStorageClient::new(cloud.mesh()), uuid.to_owned());
    let request = ReconnectBackupStorageRequest { uuid };
    let connected = async { result(storages.reconnect_backup_storage(request).await?).await };
    connected
        .await
        .map_err(|status| Fault::from_status(&status))
}

async fn get(cloud: &Cloud, uuid: &str) -> BackupStorage {
    let (storages, uuid) = (BackupStorageClient::new(cloud.mesh()), uuid.to_owned());
    let request = GetBackupStorageRequest { uuid };
    let found = storages.get_backup_storage(request).await.unwrap();
    found.backup_storage.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_taken_once_it_lets_the_cloud_in_and_is_then_known() {
    let cloud = Cloud::start().await;
    let good = backup_storage_request(&cloud.sftp, &cloud.data_directory());
    let public = std::fs::read_to_string(cloud.data_directory().join("ssh.pub")).unwrap();
    let closed = SftpServer::start().await;
    let nobody = {
        let mut server = SftpServer::start().await;
        server.pause().await;
        server
    };
    let change = |change: &dyn Fn(&mut CreateBackupStorageRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (request, code, part) in [
        (
            change(&|it| {
                it.address = closed.address();
                it.host_key.clear();
            }),
            ErrorCode::StorageFailed,
            public.trim(),
        ),
        (
            change(&|it| it.host_key = closed.host_key().to_owned()),
            ErrorCode::StorageFailed,
            "another host key",
        ),
        (
            change(&|it| it.address = nobody.address()),
            ErrorCode::Unavailable,
            "cannot be reached",
        ),
        (
            change(&|it| it.path = "/nowhere".to_owned()),
            ErrorCode::StorageFailed,
            "there is no /nowhere",
        ),
    ] {
        let fault = create(&cloud, request).await.unwrap_err();
        assert_eq!(fault.code, code, "{fault:?}");
        assert!(fault.message.contains(part), "{part}: {fault:?}");
        assert_eq!(cloud.count("backup-storage").await, 0);
    }

    // Trusted when it is first seen, and whole from then on.
    let learned = create(&cloud, change(&|it| it.host_key.clear()))
        .await
        .unwrap();
    assert_eq!(learned.host_key, cloud.sftp.host_key());
    assert_eq!(learned.status(), BackupStorageStatus::Connected);
    assert_eq!(learned.public_key, public.trim());
    assert!(learned.available_bytes() > 0 && learned.available_bytes() <= learned.total_bytes());

    let to = |address: String| UpdateBackupStorageRequest {
        uuid: learned.uuid.clone(),
        address: Some(address),
        ..Default::default()
    };
    let fault = update(&cloud, to(closed.address())).await.unwrap_err();
    assert!(fault.message.contains("another host key"), "{fault:?}");
    assert_eq!(
        get(&cloud, &learned.uuid).await.address,
        cloud.sftp.address()
    );
    closed.authorize(&public);
    closed.make_folder(&learned.path);
    let moved = UpdateBackupStorageRequest {
        host_key: Some(closed.host_key().to_owned()),
        ..to(closed.address())
    };
    let moved = update(&cloud, moved).await.unwrap();
    assert_eq!(
        (moved.address, moved.host_key),
        (closed.address(), closed.host_key().to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_stops_only_who_needs_it() {
    let mut cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    let storage = ready.backup_storage.clone();
    cloud.sftp.pause().await;
    let fault = reconnect(&cloud, &storage).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault:?}");
    let row = get(&cloud, &storage).await;
    assert_eq!(row.status(), BackupStorageStatus::Disconnected);

    let fault = cloud.create_vm(&ready, "web").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::WrongState, "{fault:?}");
    assert!(fault.message.contains("is not connected"), "{fault:?}");
    assert_eq!(fault.rolled_back.first().unwrap(), "select-backup-storage");
    cloud.assert_empty(&ready).await;

    cloud.sftp.resume().await;
    let row = reconnect(&cloud, &storage).await.unwrap();
    assert_eq!(row.status(), BackupStorageStatus::Connected);
    cloud.create_vm(&ready, "web").await.unwrap();

    // The host has the image now.
    cloud.sftp.pause().await;
    reconnect(&cloud, &storage).await.unwrap_err();
    cloud.create_vm(&ready, "db").await.unwrap();
    cloud.assert_books(&ready, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_cloud_is_in_its_file_only() {
    let cloud = Cloud::start().await;
    let ready = cloud.ready(1).await;
    cloud.create_vm(&ready, "web").await.unwrap();
    let key = std::fs::read_to_string(cloud.data_directory().join("ssh.key")).unwrap();
    // The second half of the body: in none but this key.
    let secret = key.lines().nth(4).unwrap().as_bytes();
    let above = cloud.data_directory();
    let mut folders = vec![above.parent().unwrap().to_owned()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "ssh.key" {
                let content = std::fs::read(&path).unwrap_or_default();
                let found = content.windows(secret.len()).any(|window| window == secret);
                assert!(!found, "{}", path.display());
                looked += 1;
            }
        }
    }
    assert!(looked > 5, "only {looked} files");
}
