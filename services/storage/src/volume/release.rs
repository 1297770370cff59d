//! Releasing: first the file, then the row and the reservation in one transaction. Where the volume is
//! the last on a storage that is attached no longer, the copies of images there go before the row: as
//! long as that is there, a repeat knows of them.

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
    /// Removes a volume; one that is not there is a success. It may be repeated, and goes on where it
    /// was.
    ///
    /// # Errors
    /// If its host is away, or fails to delete a file.
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
        let mut copies = self.remove(&volume, false).await?;
        while !copies.is_empty() {
            self.delete_copies(operation, &copies).await?;
            copies = self.remove(&volume, true).await?;
        }
        if let Some(ack) = ack {
            ack.committed();
        }
        Ok(())
    }

    /// Removes the row of a volume, unless there are copies that have to go before it: those it
    /// returns. `copies_are_gone` says that these were returned, and are.
    async fn remove(
        &self,
        volume: &Volume,
        copies_are_gone: bool,
    ) -> Result<Vec<ImageCache>, Fault> {
        let volume = volume.clone();
        let removed = self.store.write(move |tx| {
            let volume = volume.clone();
            Box::pin(async move {
                if copies_are_gone {
                    let sql = "DELETE FROM volume_copy WHERE volume_uuid = ?";
                    tx.execute(sql, vec![(&volume.uuid).into()]).await?;
                }
                remove(tx, &volume).await
            })
        });
        removed.await
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

/// Only who deletes the row gives its space back.
async fn remove(tx: &mut Tx, volume: &Volume) -> Result<Vec<ImageCache>, Fault> {
    let is_last = is_last(tx, volume).await?;
    if is_last {
        take_copies(tx, volume).await?;
    }
    let copies = copies(tx, volume).await?;
    if !copies.is_empty() || !tx.delete::<Volume>(&volume.uuid).await? {
        return Ok(copies);
    }
    let sql = "DELETE FROM volume_file WHERE volume_uuid = ?";
    tx.execute(sql, vec![(&volume.uuid).into()]).await?;
    capacity::give_back(tx, volume).await?;
    if is_last {
        let sql = format!("DELETE FROM primary_storage_capacity WHERE {PLACE}");
        tx.execute(&sql, place(volume)).await?;
    }
    Ok(Vec::new())
}

/// Where a volume is; takes what [`place`] gives.
const PLACE: &str = "primary_storage_uuid = ? AND host_uuid = ?";

fn place(volume: &Volume) -> Vec<Value> {
    let host = volume.host_uuid.clone();
    vec![(&volume.primary_storage_uuid).into(), host.into()]
}

/// Whether nothing is left of a storage that is attached no longer, once the volume is gone.
async fn is_last(tx: &mut Tx, volume: &Volume) -> Result<bool, Fault> {
    let sql = format!("SELECT 1 FROM primary_storage_host WHERE {PLACE}");
    if !tx.rows(&sql, place(volume)).await?.is_empty() {
        return Ok(false);
    }
    let sql = format!("SELECT 1 FROM volume WHERE {PLACE} AND uuid <> ? LIMIT 1");
    let mut values = place(volume);
    values.push((&volume.uuid).into());
    Ok(tx.rows(&sql, values).await?.is_empty())
}

/// Forgets the caches of a place: from now on they are copies that go with the volume.
async fn take_copies(tx: &mut Tx, volume: &Volume) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO volume_copy (cache_uuid, volume_uuid, image_uuid, host_uuid, install_path) \
         SELECT uuid, ?, image_uuid, host_uuid, install_path FROM image_cache WHERE {PLACE}"
    );
    let values = [vec![(&volume.uuid).into()], place(volume)].concat();
    tx.execute(&sql, values).await?;
    let sql = format!("DELETE FROM image_cache WHERE {PLACE}");
    tx.execute(&sql, place(volume)).await?;
    Ok(())
}

/// The copies that go with a volume, and are not known to be gone.
async fn copies(tx: &mut Tx, volume: &Volume) -> Result<Vec<ImageCache>, Fault> {
    let sql = "SELECT cache_uuid, image_uuid, host_uuid, install_path FROM volume_copy \
               WHERE volume_uuid = ? ORDER BY cache_uuid";
    let rows = tx.rows(sql, vec![(&volume.uuid).into()]).await?;
    let copies = rows.iter().map(|row| {
        Ok(ImageCache {
            uuid: row.text(0)?,
            image_uuid: row.text(1)?,
            host_uuid: row.opt_text(2)?,
            install_path: row.text(3)?,
            ..ImageCache::default()
        })
    });
    copies.collect()
}
