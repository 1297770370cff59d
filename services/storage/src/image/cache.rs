//! Cached images: a file on each host that made a volume from the image.
//!
//! A copy has a turn: while it is brought or removed, nobody else does either. So who removes one sees
//! whether it is wanted again, and who needs one finds it whole.

use std::time::Duration;

use cairn_agent::{AT_ONCE, Task, stored_uuid};
use cairn_agent_protocol as agent;
use cairn_inspect::begin_fix;
use cairn_proto::{
    doctor::v1alpha1::{FixFindingRequest, Problem},
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{Image, ImageCache, PrimaryStorage, PrimaryStorageCapacity, Volume},
};
use cairn_resource::now;
use cairn_store::{Store, StoreError, Tx, Value};
use cairn_types::{ErrorCode, OperationUuid, TaskUuid, Uuid};
use futures::{StreamExt as _, stream};

use crate::{Area, volume};

/// A large image over a slow line.
const FETCH_LIMIT: Duration = Duration::from_secs(30 * 60);
const DELETE_LIMIT: Duration = Duration::from_secs(60);

impl Area {
    /// Brings the image of a volume to where the volume is going to be, and returns its file.
    ///
    /// `from` is the backup storage that was selected; empty if none was.
    ///
    /// Many may want the same image on the same host at once: those after the first find it there.
    pub(crate) async fn cache_image(
        &self,
        volume: &Volume,
        task: TaskUuid,
        operation: OperationUuid,
        from: &str,
    ) -> Result<String, Fault> {
        if let Some(cache) = of_volume(&self.store, volume).await? {
            return Ok(cache.install_path);
        }
        let uuid = volume.image_uuid.clone().unwrap_or_default();
        let image = self.store.get::<Image>(&uuid).await?;
        let image = image.ok_or_else(|| Fault::not_found(Image::NOUN, &uuid))?;
        let uuid = &volume.primary_storage_uuid;
        let storage = self.store.get::<PrimaryStorage>(uuid).await?;
        let storage = storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, uuid))?;
        let host = volume::host_of(self, volume).await?;
        if from.is_empty() {
            let message = format!(
                "image {} is in no cache of primary-storage {}, and its backup storage {} cannot \
                 be used",
                image.uuid, storage.uuid, image.backup_storage_uuid
            );
            return Err(Fault::new(ErrorCode::WrongState, message).on(Image::NOUN, &image.uuid));
        }
        let from = self.backup_storage(from).await?;

        let path = format!("{}/images/{}.qcow2", storage.path, image.uuid);
        let _turn = self.copies.turn(&copy(&host.to_string(), &path)).await;
        if let Some(cache) = of_volume(&self.store, volume).await? {
            return Ok(cache.install_path);
        }
        let resource = stored_uuid(&image.uuid)?;
        let command = agent::CacheImage {
            image: resource,
            source: agent::SftpFile {
                address: from.address.clone(),
                username: from.username.clone(),
                host_key: from.host_key.clone(),
                private_key: self.private_key()?,
                path: image.install_path.clone(),
            },
            sha256: image.sha256.clone(),
            path: path.clone(),
        };
        let task = Task {
            task,
            operation,
            resource,
            limit: FETCH_LIMIT,
        };
        let (facts, ack) = self.hosts.call(host, task, &command).await?;
        let mut cache = ImageCache {
            uuid: Uuid::now_v7().to_string(),
            name: image.name,
            account_uuid: image.account_uuid,
            image_uuid: image.uuid,
            primary_storage_uuid: storage.uuid,
            host_uuid: Some(host.to_string()),
            install_path: path.clone(),
            size_bytes: facts.size_bytes,
            ..ImageCache::default()
        };
        cache.stamp(now());
        let noted = self.store.write(move |tx| {
            let cache = cache.clone();
            Box::pin(async move { note(tx, &cache).await })
        });
        noted.await?;
        ack.committed();
        Ok(path)
    }

    /// For an agent, over mutual TLS.
    fn private_key(&self) -> Result<agent::Secret, Fault> {
        let secret = self.ssh_key.secret().map_err(|error| Fault::of(&error))?;
        Ok(agent::Secret::new(secret))
    }

    /// Deletes the files of caches whose rows are gone: at once on a host that can be reached, and by
    /// a job, which waits for it, on one that is away. What is somebody's again stays. It may be
    /// repeated, and by whom it is, keeps the caches until then.
    ///
    /// # Errors
    /// If a host fails to delete one.
    pub(crate) async fn delete_copies(
        &self,
        operation: OperationUuid,
        caches: &[ImageCache],
    ) -> Result<(), Fault> {
        let deletions = caches.iter().map(|cache| async move {
            match self.delete_copy(operation, cache).await {
                Err(fault) if fault.code == ErrorCode::AgentUnreachable => {
                    self.leave_copy(operation, cache).await
                }
                ended => ended,
            }
        });
        let deletions: Vec<_> = deletions.collect();
        let deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
        let ended: Vec<Result<(), Fault>> = deletions.collect().await;
        ended.into_iter().collect()
    }

    async fn leave_copy(&self, operation: OperationUuid, cache: &ImageCache) -> Result<(), Fault> {
        let request = FixFindingRequest {
            queue_uuid: cache.image_uuid.clone(),
            queue_type: Image::NOUN.to_owned(),
            kind: "image-file".to_owned(),
            problem: Problem::Extra.into(),
            host_uuid: cache.host_uuid.clone(),
            identity: cache.install_path.clone(),
            ..FixFindingRequest::default()
        };
        let step = format!("leave-copy/{}", cache.uuid);
        let task = TaskUuid::of_step(operation, &step, "run");
        begin_fix(&self.doctor, task, request).await
    }

    /// Deletes the file of a cache whose row is gone, unless it has a row again.
    async fn delete_copy(&self, operation: OperationUuid, cache: &ImageCache) -> Result<(), Fault> {
        let host = cache.host_uuid.as_deref().unwrap_or_default();
        let _turn = self.copies.turn(&copy(host, &cache.install_path)).await;
        let there = "host_uuid = ? AND install_path = ?";
        let values = vec![host.into(), (&cache.install_path).into()];
        let wanted: Vec<ImageCache> = self.store.list(there, values).await?;
        match wanted.is_empty() {
            true => self.delete_file(operation, cache).await,
            false => Ok(()),
        }
    }

    /// Deletes the file of a cache. On a host that is gone there is nothing to be deleted.
    ///
    /// # Errors
    /// `AgentUnreachable` if the host is away; what it says if it fails.
    pub(crate) async fn delete_file(
        &self,
        operation: OperationUuid,
        cache: &ImageCache,
    ) -> Result<(), Fault> {
        let uuid = cache.host_uuid.as_deref().unwrap_or_default();
        let host = match self.hosts.find(uuid).await? {
            None => return Ok(()),
            Some((host, true)) => host,
            Some((host, false)) => {
                let message = format!("host {host} is not connected");
                let fault = Fault::new(ErrorCode::AgentUnreachable, message);
                return Err(fault.on("host", uuid));
            }
        };
        let resource = stored_uuid(&cache.image_uuid)?;
        let step = format!("delete-image/{}", cache.uuid);
        let task = Task {
            task: TaskUuid::of_step(operation, &step, "run"),
            operation,
            resource,
            limit: DELETE_LIMIT,
        };
        let command = agent::DeleteImage {
            image: resource,
            path: cache.install_path.clone(),
        };
        let ((), ack) = self.hosts.call(host, task, &command).await?;
        ack.committed();
        Ok(())
    }
}

/// What tells a copy from every other.
fn copy(host: &str, path: &str) -> String {
    format!("{host}:{path}")
}

/// The cache that a volume is cloned from, if it is there.
pub(crate) async fn of_volume(
    store: &Store,
    volume: &Volume,
) -> Result<Option<ImageCache>, StoreError> {
    let key = "image_uuid = ? AND primary_storage_uuid = ? AND host_uuid = ?";
    let values = vec![
        volume.image_uuid.clone().into(),
        Value::from(&volume.primary_storage_uuid),
        volume.host_uuid.clone().into(),
    ];
    Ok(store.find(key, values).await?.into_iter().next())
}

/// Notes a cache, unless another call did; while what it refers to is there.
async fn note(tx: &mut Tx, cache: &ImageCache) -> Result<(), Fault> {
    let place = || {
        let storage = Value::from(&cache.primary_storage_uuid);
        vec![storage, cache.host_uuid.clone().into()]
    };
    let key = "primary_storage_uuid = ? AND host_uuid = ?";
    let there: Vec<PrimaryStorageCapacity> = tx.list(key, place()).await?;
    let image = tx.get::<Image>(&cache.image_uuid).await?;
    if there.is_empty() || image.is_none() {
        let message = format!(
            "image {} or its place on primary-storage {} went while it was cached",
            cache.image_uuid, cache.primary_storage_uuid
        );
        return Err(Fault::new(ErrorCode::WrongState, message));
    }
    let mut values = place();
    values.push(Value::from(&cache.image_uuid));
    let key = format!("{key} AND image_uuid = ?");
    if tx.list::<ImageCache>(&key, values).await?.is_empty() {
        tx.insert(cache).await?;
    }
    Ok(())
}
