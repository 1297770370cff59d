//! Making: the agent clones the cached image, and the row says where the file is.

use std::time::Duration;

use cairn_agent::{Task, stored_uuid};
use cairn_agent_protocol::CreateVolume;
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{Volume, VolumeStatus},
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::{ErrorCode, OperationUuid, TaskUuid};

use super::{host_of, pool_path};
use crate::{Area, image::cache};

/// A linked clone copies nothing.
const LIMIT: Duration = Duration::from_secs(2 * 60);

impl Area {
    /// Makes the file of a volume, unless it is there.
    pub(crate) async fn instantiate_volume(
        &self,
        volume: Volume,
        task: TaskUuid,
        operation: OperationUuid,
    ) -> Result<Volume, Fault> {
        if volume.status() == VolumeStatus::Ready {
            return Ok(volume);
        }
        let cached = cache::of_volume(&self.store, &volume).await?;
        let cached = cached.ok_or_else(|| {
            let message = format!("the image of volume {} is not cached", volume.uuid);
            Fault::new(ErrorCode::WrongState, message).on(Volume::NOUN, &volume.uuid)
        })?;
        let host = host_of(self, &volume).await?;
        let resource = stored_uuid(&volume.uuid)?;
        let command = CreateVolume {
            volume: resource,
            pool_path: pool_path(self, &volume).await?,
            size_bytes: volume.size_bytes,
            template: Some(cached.install_path),
        };
        let task = Task {
            task,
            operation,
            resource,
            limit: LIMIT,
        };
        let uuid = volume.uuid;
        // Before the agent hears of it: from now on a release asks the agent to delete the file.
        let named = uuid.clone();
        let intended = self.store.write(move |tx| {
            let uuid = named.clone();
            Box::pin(async move { intend(tx, &uuid).await })
        });
        intended.await?;
        let (facts, ack) = self.hosts.call(host, task, &command).await?;
        let ready = self.store.write(move |tx| {
            let (uuid, path) = (uuid.clone(), facts.path.clone());
            Box::pin(async move { ready(tx, &uuid, path).await })
        });
        let volume = ready.await?;
        ack.committed();
        Ok(volume)
    }
}

async fn intend(tx: &mut Tx, uuid: &str) -> Result<(), Fault> {
    if tx.get::<Volume>(uuid).await?.is_none() {
        return Err(Fault::not_found(Volume::NOUN, uuid));
    }
    let sql = "INSERT INTO volume_file (volume_uuid) VALUES (?) ON CONFLICT DO NOTHING";
    tx.execute(sql, vec![uuid.into()]).await?;
    Ok(())
}

async fn ready(tx: &mut Tx, uuid: &str, path: String) -> Result<Volume, Fault> {
    let volume = tx.get::<Volume>(uuid).await?;
    let mut volume = volume.ok_or_else(|| Fault::not_found(Volume::NOUN, uuid))?;
    volume.set_status(VolumeStatus::Ready);
    volume.install_path = path;
    volume.stamp(now());
    tx.update(&volume).await?;
    Ok(volume)
}
