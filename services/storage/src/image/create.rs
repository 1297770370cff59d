//! Creating: from a URL to a file on the backup storage, or to a row that waits for one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    crud::{Check, Create as _, Keyed as _},
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{BackupStorage, CreateImageRequest, Image, ImageStatus},
};
use cairn_resource::{check_references, now};
use cairn_sftp::Connection;
use cairn_store::Tx;

use super::{
    IMAGE, SIZE_MAX, SIZE_MIN, digest::Passed, digest::Passing, file, load, part, sha256_problem,
    source::Source, source::url_problem,
};
use crate::{
    Area,
    backup_storage::{images, on},
};

/// A large image over a slow line.
const TIME_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
/// Progress is told after so many bytes of a file whose size is not known.
const TELL_EVERY: u64 = 16 << 20;

const REQUEST: &str = "cairn.storage.v1alpha1.CreateImageRequest";

pub(super) struct Create(Flow);

impl Create {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        Ok(Self(flows.of::<Self>("create-image", &[IMAGE])?))
    }
}

#[async_trait]
impl KeyedHandler for Create {
    type Request = CreateImageRequest;
    type Resource = Image;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        if let Some(problem) = Some(&request.url).filter(|url| !url.is_empty()) {
            if let Some(problem) = url_problem(problem) {
                check.refuse("url", problem);
            }
        } else if !request.sha256.is_empty() {
            let problem = "is for a file at a URL; what is uploaded is checked when it is there";
            check.refuse("sha256", problem);
        }
        if let Some(size_bytes) = request.size_bytes {
            check.within("size_bytes", size_bytes, SIZE_MIN, SIZE_MAX);
        }
        let sha256 = Some(&request.sha256).filter(|sha256| !sha256.is_empty());
        if let Some(problem) = sha256.and_then(|sha256| sha256_problem(sha256)) {
            check.refuse("sha256", format!("{problem}, or nothing"));
        }
    }

    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<CreateImageRequest>,
    ) -> Result<Ended<Image>, Fault> {
        let created = self.0.run(cx, Bag::of(&*request), |tx, bag| {
            let made = bag.get::<Image>();
            Box::pin(async move {
                let made = made.unwrap_or_default();
                let mut image = load(tx, &made.uuid).await?;
                if image.status() == ImageStatus::Downloading {
                    super::become_ready(tx, &mut image, &made).await?;
                }
                Ok(image)
            })
        });
        created.await
    }
}

/// Makes the row, which nothing is made from yet; unless the server is away, for then what comes
/// after could neither be done nor undone.
pub(super) struct CreateRow(pub(super) Arc<Area>);

#[async_trait]
impl Step for CreateRow {
    fn name(&self) -> &'static str {
        "create-image-row"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: CreateImageRequest = cx.get()?;
        let account = cx.operation().account().to_string();
        let uuid = &request.backup_storage_uuid;
        // One that is not there is told with what else the request has wrong.
        if let Some(storage) = self.0.store.get::<BackupStorage>(uuid).await? {
            Area::for_use(&storage)?;
            drop(self.0.connection(&storage).await?);
        }
        Ok(Outcome::rows(move |tx| {
            let (request, account) = (request.clone(), account.clone());
            Box::pin(async move {
                let image = insert(tx, &request, account).await?;
                Ok(Bag::of(&image))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        // The row is one commit with the outcome: without it there is none.
        let Some(image) = cx.find::<Image>() else {
            return Ok(Outcome::none());
        };
        Ok(Outcome::rows(move |tx| {
            let uuid = image.uuid.clone();
            Box::pin(async move {
                tx.delete::<Image>(&uuid).await?;
                Ok(Bag::new())
            })
        }))
    }
}

async fn insert(
    tx: &mut Tx,
    request: &CreateImageRequest,
    account: String,
) -> Result<Image, Fault> {
    check_references(tx, &request.references()).await?;
    let storage = tx
        .get::<BackupStorage>(&request.backup_storage_uuid)
        .await?;
    Area::for_use(&storage.unwrap_or_default())?;
    let mut image = request.resource();
    image.account_uuid = account;
    image.sha256.make_ascii_lowercase();
    image.set_state(ResourceState::Enabled);
    image.set_status(match image.url.is_empty() {
        true => ImageStatus::Uploading,
        false => ImageStatus::Downloading,
    });
    image.stamp(now());
    tx.insert(&image).await?;
    Ok(image)
}

/// Brings the file from its URL to the backup storage, checked on the way.
pub(super) struct Download(pub(super) Arc<Area>);

#[async_trait]
impl Step for Download {
    fn name(&self) -> &'static str {
        "download-image"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    fn outside(&self) -> bool {
        true
    }

    fn skip(&self, bag: &Bag) -> bool {
        bag.get::<Image>().is_some_and(|image| image.url.is_empty())
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let mut image: Image = cx.get()?;
        let storage = self.0.backup_storage(&image.backup_storage_uuid).await?;
        let passed = tokio::select! {
            passed = self.0.download(cx.operation(), &storage, &image) => passed?,
            fault = cx.operation().cancelled() => return Err(fault),
        };
        passed.describe(&mut image)?;
        image.install_path = file(&storage, &image.uuid);
        Ok(Outcome::provide(&image))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let image: Image = cx.get()?;
        let storage = self.0.backup_storage(&image.backup_storage_uuid).await?;
        self.0.remove_image(&storage, &image.uuid).await?;
        Ok(Outcome::none())
    }
}

impl Area {
    async fn download(
        &self,
        operation: &OperationContext,
        storage: &BackupStorage,
        image: &Image,
    ) -> Result<Passed, Fault> {
        let opened = Source::open(&image.url, &self.private).await;
        let mut source = opened.map_err(|error| Fault::of(&error))?;
        let total = source.size();
        let connection = self.connection(storage).await?;
        let (part, file) = (part(storage, &image.uuid), file(storage, &image.uuid));
        let failed = |error| on(storage, &error);
        let mut writer = match room(&connection, storage, total).await {
            Ok(()) => connection.create(&part).await.map_err(failed)?,
            Err(fault) => return Err(fault),
        };
        let (mut passing, mut told) = (Passing::new(), 0);
        while let Some(block) = source.next().await.map_err(|error| Fault::of(&error))? {
            writer.write(&block).await.map_err(failed)?;
            passing.take(&block);
            let size = passing.size();
            if size - told >= total.map_or(TELL_EVERY, |total| (total / 100).max(1 << 18)) {
                told = size;
                tell(operation, size, total);
            }
        }
        let passed = passing.end();
        if !image.sha256.is_empty() {
            passed.must_be(image, &image.sha256)?;
        }
        // Refused before it gets its name.
        passed.describe(&mut image.clone())?;
        writer.finish().await.map_err(failed)?;
        connection.rename(&part, &file).await.map_err(failed)?;
        Ok(passed)
    }

    /// Removes whatever there is of an image on its backup storage.
    pub(super) async fn remove_image(
        &self,
        storage: &BackupStorage,
        image: &str,
    ) -> Result<(), Fault> {
        let connection = self.connection(storage).await?;
        for path in [part(storage, image), file(storage, image)] {
            let removed = connection.remove(&path).await;
            removed.map_err(|error| on(storage, &error))?;
        }
        Ok(())
    }
}

/// That there is room for a file whose size is known, before much of it is there.
async fn room(
    connection: &Connection,
    storage: &BackupStorage,
    total: Option<u64>,
) -> Result<(), Fault> {
    let space = connection.space(&images(storage)).await;
    let space = space.map_err(|error| on(storage, &error))?;
    let (Some(space), Some(total)) = (space, total) else {
        return Ok(());
    };
    if space.available >= total {
        return Ok(());
    }
    let message = format!(
        "backup storage {} has {} bytes left; the file has {total}",
        storage.uuid, space.available
    );
    let fault = Fault::new(cairn_types::ErrorCode::OutOfCapacity, message);
    Err(fault.on(BackupStorage::NOUN, &storage.uuid))
}

fn tell(operation: &OperationContext, size: u64, total: Option<u64>) {
    let mib = |bytes: u64| bytes >> 20;
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = u32::try_from(size.saturating_mul(98) / total).unwrap_or(98);
            operation.progress(
                percent.min(98),
                format!("downloaded {} of {} MiB", mib(size), mib(total)),
            );
        }
        None => operation.progress(10, format!("downloaded {} MiB", mib(size))),
    }
}
