//! Reserving: the space is taken and the row is made, in one transaction.

use cairn_proto::{
    compute::v1alpha1::ResourceState,
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{Image, ImageStatus, Volume, VolumeStatus, VolumeType},
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::{ErrorCode, HostUuid};

use crate::{Area, primary_storage::capacity};

/// A root volume to be.
#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) account_uuid: String,
    pub(crate) vm_instance_uuid: String,
    pub(crate) image_uuid: String,
    pub(crate) host: HostUuid,
}

impl Area {
    /// The volume of that uuid: as it is, or made now.
    pub(crate) async fn allocate_volume(&self, asked: Allocation) -> Result<Volume, Fault> {
        let allocated = self.store.write(move |tx| {
            let asked = asked.clone();
            Box::pin(async move { allocate(tx, asked).await })
        });
        allocated.await
    }
}

async fn allocate(tx: &mut Tx, asked: Allocation) -> Result<Volume, Fault> {
    if let Some(volume) = tx.get::<Volume>(&asked.uuid).await? {
        return Ok(volume);
    }
    let image = tx.get::<Image>(&asked.image_uuid).await?;
    let image = image_for_use(image, &asked.image_uuid)?;
    let primary_storage_uuid = capacity::reserve(tx, asked.host, image.size_bytes).await?;
    let mut volume = Volume {
        uuid: asked.uuid,
        name: asked.name,
        account_uuid: asked.account_uuid,
        primary_storage_uuid,
        host_uuid: Some(asked.host.to_string()),
        vm_instance_uuid: Some(asked.vm_instance_uuid),
        image_uuid: Some(image.uuid),
        size_bytes: image.size_bytes,
        ..Volume::default()
    };
    volume.set_type(VolumeType::Root);
    volume.set_status(VolumeStatus::NotInstantiated);
    volume.stamp(now());
    tx.insert(&volume).await?;
    Ok(volume)
}

/// The image, if new volumes may be made from it.
pub(crate) fn image_for_use(image: Option<Image>, uuid: &str) -> Result<Image, Fault> {
    let image = image.ok_or_else(|| Fault::not_found(Image::NOUN, uuid))?;
    let message = if image.status() == ImageStatus::Deleted {
        format!("image {uuid} is Deleted; recover it, or take another one")
    } else if image.status() != ImageStatus::Ready {
        format!(
            "image {uuid} is {:?}; wait until it is Ready",
            image.status()
        )
    } else if image.state() != ResourceState::Enabled {
        format!("image {uuid} is disabled; enable it, or take another one")
    } else {
        return Ok(image);
    };
    Err(Fault::new(ErrorCode::WrongState, message).on(Image::NOUN, uuid))
}
