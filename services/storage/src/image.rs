//! Images: what root volumes start as. The file is on a backup storage; hosts keep copies.

mod api;
pub(crate) mod cache;
mod create;
mod delete;
mod digest;
mod expunge;
mod format;
mod source;
mod upload;

use std::sync::Arc;

use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{BackupStorage, Image, ImageStatus, UpdateImageRequest},
};
use cairn_resource::{Updating, now};
use cairn_store::Tx;
use cairn_types::ErrorCode;

use crate::{Area, backup_storage::images};

pub(crate) use api::ImageApi;
pub(crate) use upload::Uploads;

const IMAGE: &str = "cairn.storage.v1alpha1.Image";
/// What a step provides that has forgotten copies: `delete-image-copies` removes them.
pub(crate) const COPIES: &str = "cairn.storage.internal.v1alpha1.ImageCopies";
/// The smallest disk.
const SIZE_MIN: u64 = 1 << 20;
/// The largest disk.
const SIZE_MAX: u64 = 16 << 40;
/// SHA-256 in hex.
const SHA256_LENGTH: usize = 64;

/// The steps, and the flows of them.
pub(crate) fn steps(registry: &mut Registry, area: &Arc<Area>) {
    let area = || Arc::clone(area);
    registry
        .step(create::CreateRow(area()))
        .step(create::Download(area()))
        .flow(
            "create-image.toml",
            include_str!("../flows/create-image.toml"),
        )
        .step(upload::EnterVerifying)
        .step(upload::Verify(area()))
        .flow(
            "complete-image-upload.toml",
            include_str!("../flows/complete-image-upload.toml"),
        )
        .step(delete::EnterDeleting::delete(area().policy))
        .step(delete::EnterDeleting::expunge(area().policy))
        .step(delete::DeleteFile(area()))
        .step(delete::Forget)
        .step(delete::DeleteCopies(area()))
        .flow(
            "delete-image.toml",
            include_str!("../flows/delete-image.toml"),
        )
        .flow(
            "expunge-image.toml",
            include_str!("../flows/expunge-image.toml"),
        );
}

pub(crate) fn register(
    operations: Builder,
    area: &Arc<Area>,
    flows: &mut Flows,
) -> Result<Builder, FlowError> {
    Ok(operations
        .register(create::Create::new(flows)?)
        .register(upload::Complete::new(flows)?)
        .register(Updating::<UpdateImageRequest>::plain())
        .register(delete::Delete::new(area, flows)?)
        .register(delete::Recover)
        .register(delete::Expunge::new(flows)?))
}

/// The file of an image, once it is whole.
pub(crate) fn file(storage: &BackupStorage, image: &str) -> String {
    format!("{}/{image}", images(storage))
}

/// The file of an image while it comes.
pub(crate) fn part(storage: &BackupStorage, image: &str) -> String {
    format!("{}.part", file(storage, image))
}

async fn load(tx: &mut Tx, uuid: &str) -> Result<Image, Fault> {
    let image = tx.get::<Image>(uuid).await?;
    image.ok_or_else(|| Fault::not_found(Image::NOUN, uuid))
}

/// Gives an image another status.
async fn enter(tx: &mut Tx, image: &mut Image, status: ImageStatus) -> Result<(), Fault> {
    image.set_status(status);
    image.stamp(now());
    tx.update(image).await?;
    Ok(())
}

/// Takes over what was learned of the file, which is there now.
async fn become_ready(tx: &mut Tx, image: &mut Image, learned: &Image) -> Result<(), Fault> {
    image.size_bytes = learned.size_bytes;
    image.format = learned.format;
    image.file_size_bytes = learned.file_size_bytes;
    image.sha256.clone_from(&learned.sha256);
    image.install_path.clone_from(&learned.install_path);
    enter(tx, image, ImageStatus::Ready).await
}

/// That an image is in the status that something is done in.
fn must_be(image: &Image, status: ImageStatus, what: &str) -> Result<(), Fault> {
    if image.status() == status {
        return Ok(());
    }
    let (uuid, is) = (&image.uuid, image.status());
    let message = format!("image {uuid} is {is:?}; {what} is for one that is {status:?}");
    Err(Fault::new(ErrorCode::WrongState, message).on(Image::NOUN, uuid))
}

/// What is wrong with a SHA-256.
fn sha256_problem(sha256: &str) -> Option<String> {
    let hex = sha256.len() == SHA256_LENGTH && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    (!hex).then(|| format!("is no SHA-256; give {SHA256_LENGTH} hex digits"))
}
