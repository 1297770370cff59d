//! Releasing: first the file, then the row and the reservation in one transaction.

use std::time::Duration;

use cairn_agent::{Task, stored_uuid};
use cairn_agent_protocol::DeleteVolume;
use cairn_proto::{
    fault::Fault,
    storage::v1alpha1::{ImageCache, Volume},
};
use cairn_store::{Tx, Value};
use cairn_types::{HostUuid, OperationUuid, TaskUuid};

use super::pool_path;
use crate::{Area, primary_storage::capacity};

/// A file system may take its time over a large file.
const LIMIT: Duration = Duration::from_secs(5 * 60);

impl Area {
    /// Removes a volume; one that is not there is a success.
    pub(crate) async fn release_volume(
        &self,
        uuid: &str,
        task: TaskUuid,
        operation: OperationUuid,
    ) -> Result<(), Fault> {
        let Some(volume) = self.store.get::<Volume>(uuid).await? else {
            return Ok(());
        };
        let ack = match self.may_have_file(&volume).await? {
            None => None,
            Some(host) => {
                let resource = stored_uuid(&volume.uuid)?;
                let command = DeleteVolume {
                    volume: resource,
                    pool_path: pool_path(self, &volume).await?,
                };
                let task = Task {
                    task,
                    operation,
                    resource,
                    limit: LIMIT,
                };
                let ((), ack) = self.hosts.call(host, task, &command).await?;
                Some(ack)
            }
        };
        let removed = self.store.write(move |tx| {
            let volume = volume.clone();
            Box::pin(async move { remove(tx, &volume).await })
        });
        let caches = removed.await?;
        if let Some(ack) = ack {
            ack.committed();
        }
        self.delete_cached(operation, caches).await;
        Ok(())
    }

    /// The host to ask, unless no agent was told to make the volume, or its host is gone for
    /// good and the file with it.
    async fn may_have_file(&self, volume: &Volume) -> Result<Option<HostUuid>, Fault> {
        let sql = "SELECT 1 FROM volume_file WHERE volume_uuid = ?";
        let told = self.store.rows(sql, vec![(&volume.uuid).into()]).await?;
        if told.is_empty() {
            return Ok(None);
        }
        let host = volume.host_uuid.as_deref().unwrap_or_default();
        Ok(self.hosts.find(host).await?.map(|(host, _)| host))
    }
}

/// Only who deletes the row gives its space back. Returns the images that nothing needs any more.
async fn remove(tx: &mut Tx, volume: &Volume) -> Result<Vec<ImageCache>, Fault> {
    if !tx.delete::<Volume>(&volume.uuid).await? {
        return Ok(Vec::new());
    }
    let sql = "DELETE FROM volume_file WHERE volume_uuid = ?";
    tx.execute(sql, vec![(&volume.uuid).into()]).await?;
    capacity::give_back(tx, volume).await?;
    forget_detached(tx, volume).await
}

/// With the last volume there goes what was kept of a storage that is attached no longer.
async fn forget_detached(tx: &mut Tx, volume: &Volume) -> Result<Vec<ImageCache>, Fault> {
    let there = "primary_storage_uuid = ? AND host_uuid = ?";
    let values = || -> Vec<Value> {
        let host = volume.host_uuid.clone();
        vec![(&volume.primary_storage_uuid).into(), host.into()]
    };
    for table in ["volume", "primary_storage_host"] {
        let sql = format!("SELECT 1 FROM {table} WHERE {there} LIMIT 1");
        if !tx.rows(&sql, values()).await?.is_empty() {
            return Ok(Vec::new());
        }
    }
    let caches = tx.list::<ImageCache>(there, values()).await?;
    for table in ["image_cache", "primary_storage_capacity"] {
        let sql = format!("DELETE FROM {table} WHERE {there}");
        tx.execute(&sql, values()).await?;
    }
    Ok(caches)
}
