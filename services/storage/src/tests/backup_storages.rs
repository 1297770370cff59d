//! Watching over servers: what is away is said to be, and what is back too.

use cairn_proto::storage::v1alpha1::{BackupStorage, BackupStorageStatus};
use cairn_testkit::{SftpServer, wait_until};
use tokio_util::sync::CancellationToken;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

on_both_databases!(a_server_that_goes_and_comes_back_is_noticed);

/// The row of a storage in `/srv` of a server.
pub(super) fn storage_on(server: &SftpServer) -> BackupStorage {
    BackupStorage {
        uuid: uuid(),
        name: "images".to_owned(),
        address: server.address(),
        username: "cairn".to_owned(),
        path: "/srv".to_owned(),
        host_key: server.host_key().to_owned(),
        ..BackupStorage::default()
    }
}

async fn a_server_that_goes_and_comes_back_is_noticed(database: Database) {
    let fixture = Fixture::new(database).await;
    let mut server = SftpServer::start().await;
    server.authorize(fixture.key.public());
    server.make_folder("/srv");
    let row = storage_on(&server);
    fixture.insert(row.clone()).await;
    let becomes = async |wanted: BackupStorageStatus| {
        let read = async || fixture.store.get::<BackupStorage>(&row.uuid).await;
        let is = |found: &Result<Option<BackupStorage>, _>| {
            let found = found.as_ref().ok().and_then(Option::as_ref);
            found.is_some_and(|found| found.status() == wanted)
        };
        let found = wait_until(&format!("{wanted:?}"), read, is, LIMIT).await;
        found.unwrap().unwrap()
    };
    let stop = CancellationToken::new();
    let seen = async {
        let found = becomes(BackupStorageStatus::Connected).await;
        assert!(found.available_bytes() > 0);
        server.full_after(7);
        let read = async || becomes(BackupStorageStatus::Connected).await;
        wait_until(
            "it is nearly full",
            read,
            |row| row.available_bytes() == 7,
            LIMIT,
        )
        .await;
        server.pause().await;
        becomes(BackupStorageStatus::Disconnected).await;
        server.resume().await;
        becomes(BackupStorageStatus::Connected).await;
        stop.cancel();
    };
    tokio::join!(fixture.area.clone().watch(stop.clone()), seen);
}
