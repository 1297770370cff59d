//! Deleting: the file on the backup storage, then the rows, then the copies on hosts; one that is away
//! loses its copy when it is back, by a job of its own. By the deletion policy an image may only be
//! set aside, until it is recovered or expunged.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    fault::Fault,
    meta::Resource,
    storage::{
        internal::v1alpha1::ImageCopies,
        v1alpha1::{
            DeleteImageRequest, ExpungeImageRequest, Image, ImageCache, ImageStatus,
            RecoverImageRequest,
        },
    },
};
use cairn_resource::DeletionPolicy;
use cairn_store::Tx;
use cairn_types::ErrorCode;
use prost::Name;

use super::{COPIES, IMAGE, enter, load, must_be};
use crate::Area;

const DELETE: &[&str] = &["cairn.storage.v1alpha1.DeleteImageRequest"];
const EXPUNGE: &[&str] = &["cairn.storage.v1alpha1.ExpungeImageRequest"];

/// Runs the flow after which there is nothing of it.
async fn destroy<Q: Name>(
    flow: &Flow,
    cx: &OperationContext,
    request: &Q,
) -> Result<Ended<Image>, Fault> {
    let deleted = flow.run(cx, Bag::of(request), |_, bag| {
        let image = bag.get::<Image>().unwrap_or_default();
        Box::pin(async move { Ok(image) })
    });
    deleted.await
}

pub(super) struct Delete {
    flow: Flow,
    area: Arc<Area>,
}

impl Delete {
    pub(super) fn new(area: &Arc<Area>, flows: &mut Flows) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("delete-image", &[IMAGE])?;
        let area = Arc::clone(area);
        Ok(Self { flow, area })
    }

    /// Whether the image is set aside, and not removed.
    async fn keeps(&self, uuid: &str) -> Result<bool, Fault> {
        if !self.area.policy.keeps() {
            return Ok(false);
        }
        let image = self.area.store.get::<Image>(uuid).await?;
        let ready = |image: Image| image.status() == ImageStatus::Ready;
        Ok(image.is_some_and(ready))
    }
}

#[async_trait]
impl KeyedHandler for Delete {
    type Request = DeleteImageRequest;
    type Resource = Image;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<DeleteImageRequest>,
    ) -> Result<Ended<Image>, Fault> {
        if !self.keeps(&request.uuid).await? {
            return destroy(&self.flow, cx, &*request).await;
        }
        cx.finish(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut image = load(tx, &uuid).await?;
                must_be(&image, ImageStatus::Ready, "to be deleted")?;
                unused(tx, &uuid).await?;
                enter(tx, &mut image, ImageStatus::Deleted).await?;
                Ok(image)
            })
        })
        .await
    }
}

pub(super) struct Expunge(Flow);

impl Expunge {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        Ok(Self(flows.of::<Self>("expunge-image", &[IMAGE])?))
    }
}

#[async_trait]
impl KeyedHandler for Expunge {
    type Request = ExpungeImageRequest;
    type Resource = Image;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<ExpungeImageRequest>,
    ) -> Result<Ended<Image>, Fault> {
        destroy(&self.0, cx, &*request).await
    }
}

pub(super) struct Recover;

#[async_trait]
impl KeyedHandler for Recover {
    type Request = RecoverImageRequest;
    type Resource = Image;

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<RecoverImageRequest>,
    ) -> Result<Ended<Image>, Fault> {
        cx.finish(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut image = load(tx, &uuid).await?;
                must_be(&image, ImageStatus::Deleted, "to be recovered")?;
                enter(tx, &mut image, ImageStatus::Ready).await?;
                Ok(image)
            })
        })
        .await
    }
}

/// From now on nothing is made from it.
pub(super) struct EnterDeleting {
    name: &'static str,
    /// It was deleted before.
    expunges: bool,
    policy: DeletionPolicy,
}

impl EnterDeleting {
    pub(super) const fn delete(policy: DeletionPolicy) -> Self {
        Self {
            name: "enter-image-deleting",
            expunges: false,
            policy,
        }
    }

    pub(super) const fn expunge(policy: DeletionPolicy) -> Self {
        Self {
            name: "enter-image-expunging",
            expunges: true,
            policy,
        }
    }
}

#[async_trait]
impl Step for EnterDeleting {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        match self.expunges {
            false => DELETE,
            true => EXPUNGE,
        }
    }

    fn provides(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let (expunges, policy) = (self.expunges, self.policy);
        let uuid = match expunges {
            false => cx.get::<DeleteImageRequest>()?.uuid,
            true => cx.get::<ExpungeImageRequest>()?.uuid,
        };
        Ok(Outcome::rows(move |tx| {
            let uuid = uuid.clone();
            Box::pin(async move {
                let before = load(tx, &uuid).await?;
                if expunges {
                    must_be(&before, ImageStatus::Deleted, "to be expunged")?;
                }
                let deleted = before.status() == ImageStatus::Deleted;
                if deleted && (policy == DeletionPolicy::Never || policy.keeps() && !expunges) {
                    let message = match policy {
                        DeletionPolicy::Never => "is kept for good by the deletion policy",
                        _ => "is deleted already; recover or expunge it",
                    };
                    let fault =
                        Fault::new(ErrorCode::WrongState, format!("image {uuid} {message}"));
                    return Err(fault.on(Image::NOUN, &uuid));
                }
                unused(tx, &uuid).await?;
                enter(tx, &mut before.clone(), ImageStatus::Deleting).await?;
                // As it was, for who has to restore it.
                Ok(Bag::of(&before))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        // The row changed in one commit with the outcome: without it there is nothing to undo.
        let Some(before) = cx.find::<Image>() else {
            return Ok(Outcome::none());
        };
        Ok(Outcome::rows(move |tx| {
            let before = before.clone();
            Box::pin(async move {
                let mut image = load(tx, &before.uuid).await?;
                enter(tx, &mut image, before.status()).await?;
                Ok(Bag::new())
            })
        }))
    }
}

/// Removes the file from the backup storage. If that fails, the image is as it was; should the
/// file be gone all the same, because the server's answer was lost, another deletion ends it.
pub(super) struct DeleteFile(pub(super) Arc<Area>);

#[async_trait]
impl Step for DeleteFile {
    fn name(&self) -> &'static str {
        "delete-image-file"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    fn outside(&self) -> bool {
        true
    }

    fn skip(&self, bag: &Bag) -> bool {
        bag.get::<Image>()
            .is_some_and(|image| image.backup_storage_uuid.is_empty())
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let image: Image = cx.get()?;
        let storage = self.0.backup_storage(&image.backup_storage_uuid).await?;
        // A piece that is being written would make the file again.
        let upload = self.0.uploads.turn(&image.uuid).await;
        self.0.remove_image(&storage, &image.uuid).await?;
        upload.end();
        Ok(Outcome::none())
    }
}

/// Removes the rows of an image. Afterwards nothing but this step's outcome says where copies are.
pub(super) struct Forget;

#[async_trait]
impl Step for Forget {
    fn name(&self) -> &'static str {
        "forget-image"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[COPIES]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let image: Image = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let uuid = image.uuid.clone();
            Box::pin(async move {
                let caches = tx.list("image_uuid = ?", vec![(&uuid).into()]).await?;
                let sql = "DELETE FROM image_cache WHERE image_uuid = ?";
                tx.execute(sql, vec![(&uuid).into()]).await?;
                unused(tx, &uuid).await?;
                tx.delete::<Image>(&uuid).await?;
                Ok(Bag::of(&ImageCopies { caches }))
            })
        }))
    }
}

/// Removes copies of images from hosts, in any flow that has forgotten them in a step before.
pub(super) struct DeleteCopies(pub(super) Arc<Area>);

#[async_trait]
impl Step for DeleteCopies {
    fn name(&self) -> &'static str {
        "delete-image-copies"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[COPIES]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let copies: ImageCopies = cx.get()?;
        let operation = cx.operation().uuid();
        self.0.delete_copies(operation, &copies.caches).await?;
        Ok(Outcome::none())
    }
}

/// That nothing refers to an image but the copies of it, which go with it.
async fn unused(tx: &mut Tx, uuid: &str) -> Result<(), Fault> {
    let mut referrers = tx.referrers(Image::NOUN, uuid).await?;
    referrers.retain(|(noun, _)| noun != ImageCache::NOUN);
    if referrers.is_empty() {
        return Ok(());
    }
    let who = referrers
        .iter()
        .map(|(noun, count)| format!("{count} {noun}"));
    let who: Vec<_> = who.collect();
    let message = format!(
        "image {uuid} is in use by {}; delete that first",
        who.join(", ")
    );
    Err(Fault::new(ErrorCode::InUse, message).on(Image::NOUN, uuid))
}
