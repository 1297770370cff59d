//! Volumes: reserved, made, released.

mod allocate;
mod instantiate;
mod release;

use cairn_operation::Builder;
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{PrimaryStorage, UpdateVolumeRequest, Volume},
};
use cairn_resource::Updating;
use cairn_types::{ErrorCode, HostUuid};

use crate::Area;

pub(crate) use allocate::{Allocation, image_for_use};

pub(crate) fn register(operations: Builder) -> Builder {
    operations.register(Updating::<UpdateVolumeRequest>::plain())
}

/// The host that a volume is on.
pub(crate) async fn host_of(area: &Area, volume: &Volume) -> Result<HostUuid, Fault> {
    let uuid = volume.host_uuid.as_deref().unwrap_or_default();
    match area.hosts.find(uuid).await? {
        Some((host, _)) => Ok(host),
        None => {
            let message = format!("volume {} is on host {uuid}, which is gone", volume.uuid);
            Err(Fault::new(ErrorCode::WrongState, message).on(Volume::NOUN, &volume.uuid))
        }
    }
}

/// The directory of the storage that a volume is on.
async fn pool_path(area: &Area, volume: &Volume) -> Result<String, Fault> {
    let uuid = &volume.primary_storage_uuid;
    let storage = area.store.get::<PrimaryStorage>(uuid).await?;
    let storage = storage.ok_or_else(|| Fault::not_found(PrimaryStorage::NOUN, uuid))?;
    Ok(storage.path)
}
