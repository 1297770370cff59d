//! Selecting: from where a host gets an image.

use cairn_proto::{
    compute::v1alpha1::ResourceState,
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{BackupStorage, BackupStorageStatus, Image, ImageCache},
};
use cairn_types::ErrorCode;

use crate::{Area, volume::image_for_use};

impl Area {
    /// The backup storage that has the image, if it can be used now. A host that has the image in
    /// a cache may do without: then there is none.
    pub(crate) async fn select_backup_storage(
        &self,
        image: &str,
        host: &str,
    ) -> Result<Option<BackupStorage>, Fault> {
        let image = image_for_use(self.store.get::<Image>(image).await?, image)?;
        let storage = self.backup_storage(&image.backup_storage_uuid).await?;
        let Some(problem) = problem(&storage) else {
            return Ok(Some(storage));
        };
        let cached = "image_uuid = ? AND host_uuid = ?";
        let values = vec![(&image.uuid).into(), host.into()];
        let caches: Vec<ImageCache> = self.store.list(cached, values).await?;
        match caches.is_empty() {
            false => Ok(None),
            true => {
                let message = format!(
                    "image {} is on backup storage {}, which {problem}",
                    image.uuid, storage.uuid
                );
                let fault = Fault::new(ErrorCode::WrongState, message);
                Err(fault.on(BackupStorage::NOUN, &storage.uuid))
            }
        }
    }

    /// The backup storage, if new images may be put there.
    pub(crate) fn for_use(storage: &BackupStorage) -> Result<(), Fault> {
        match problem(storage) {
            None => Ok(()),
            Some(problem) => {
                let message = format!("backup storage {} {problem}", storage.uuid);
                let fault = Fault::new(ErrorCode::WrongState, message);
                Err(fault.on(BackupStorage::NOUN, &storage.uuid))
            }
        }
    }
}

/// Why a backup storage cannot be used now.
fn problem(storage: &BackupStorage) -> Option<&'static str> {
    if storage.state() != ResourceState::Enabled {
        Some("is disabled; enable it")
    } else if storage.status() != BackupStorageStatus::Connected {
        Some("is not connected; `reconnect` says why")
    } else {
        None
    }
}
