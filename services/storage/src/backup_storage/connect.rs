//! Connecting: what the server is known by, whether the cloud can write there, what is left.

use cairn_flow::gc;
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{BackupStorage, BackupStorageStatus},
};
use cairn_sftp::{Connection, Endpoint, InvalidHostKey, SftpError, Space};
use cairn_types::ErrorCode;

use crate::Area;

/// What is written, and removed again, to see whether one can.
pub(crate) const PROBE: &str = ".probe";

/// The folder of the images, below that of the storage.
pub(crate) fn images(storage: &BackupStorage) -> String {
    format!("{}/images", storage.path)
}

impl Area {
    /// A connection to the server of a backup storage, for one piece of work.
    pub(crate) async fn connection(&self, storage: &BackupStorage) -> Result<Connection, Fault> {
        let opened = Connection::open(&endpoint(storage)?, &self.ssh_key).await;
        opened.map_err(|error| on(storage, &error))
    }

    /// Connects, sees whether the cloud can write there, and fills in what is learned.
    pub(super) async fn probe(&self, storage: &mut BackupStorage) -> Result<(), Fault> {
        let connection = self.connection(storage).await?;
        let space = writable(&connection, storage).await;
        let space = space.map_err(|error| on(storage, &error))?;
        storage.host_key = connection.host_key().to_string();
        storage.public_key = self.ssh_key.public().to_owned();
        storage.total_bytes = space.map(|space| space.total);
        storage.available_bytes = space.map(|space| space.available);
        storage.set_status(BackupStorageStatus::Connected);
        Ok(())
    }

    /// What the server says that is left.
    pub(super) async fn look(&self, storage: &BackupStorage) -> Result<Option<Space>, Fault> {
        let connection = self.connection(storage).await?;
        let space = connection.space(&storage.path).await;
        space.map_err(|error| on(storage, &error))
    }

    /// Writes down whether a server was reached: `None` says that it was not.
    pub(super) async fn note(
        &self,
        storage: &BackupStorage,
        found: Option<Option<Space>>,
    ) -> Result<(), Fault> {
        let seen = storage.clone();
        let noted = self.store.write(move |tx| {
            let seen = seen.clone();
            Box::pin(async move {
                let Some(mut storage) = tx.get::<BackupStorage>(&seen.uuid).await? else {
                    return Ok(());
                };
                // What was looked at may have been replaced meanwhile.
                if endpoint_of(&storage) != endpoint_of(&seen) {
                    return Ok(());
                }
                let before = storage.clone();
                match found {
                    Some(space) => {
                        storage.set_status(BackupStorageStatus::Connected);
                        storage.total_bytes = space.map(|space| space.total);
                        storage.available_bytes = space.map(|space| space.available);
                    }
                    None => storage.set_status(BackupStorageStatus::Disconnected),
                }
                if storage != before {
                    tx.update(&storage).await?;
                }
                if storage.status != before.status && found.is_some() {
                    gc::wake(tx, BackupStorage::NOUN, &storage.uuid).await?;
                }
                Ok::<_, Fault>(())
            })
        });
        noted.await
    }
}

fn endpoint_of(storage: &BackupStorage) -> [&str; 3] {
    [&storage.address, &storage.username, &storage.host_key]
}

/// How the server of a backup storage is reached.
fn endpoint(storage: &BackupStorage) -> Result<Endpoint, Fault> {
    let known = Some(&storage.host_key).filter(|key| !key.is_empty());
    let host_key = known.map(|key| key.parse()).transpose();
    Ok(Endpoint {
        address: storage.address.clone(),
        username: storage.username.clone(),
        host_key: host_key.map_err(|error: InvalidHostKey| {
            let message = format!("the host key of backup storage {} {error}", storage.uuid);
            Fault::new(ErrorCode::Internal, message)
        })?,
    })
}

/// A failure of the server, as that of the backup storage.
pub(crate) fn on(storage: &BackupStorage, error: &SftpError) -> Fault {
    Fault::of(error).on(BackupStorage::NOUN, &storage.uuid)
}

async fn writable(
    connection: &Connection,
    storage: &BackupStorage,
) -> Result<Option<Space>, SftpError> {
    let images = images(storage);
    connection.check_folder(&storage.path).await?;
    connection.make_folder(&images).await?;
    let probe = format!("{images}/{PROBE}");
    connection.create(&probe).await?.finish().await?;
    connection.remove(&probe).await?;
    connection.space(&images).await
}
