//! Uploading: pieces that follow each other into a file, which is then checked as a whole.
//!
//! How far an upload is, the file says, and nothing else: so it goes on after whatever cut it. A
//! connection is kept from one piece to the next.

mod turns;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Step, StepContext};
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    crud::Check,
    fault::Fault,
    meta::Resource,
    storage::v1alpha1::{
        BackupStorage, CompleteImageUploadRequest, Image, ImageStatus, UploadImageChunkRequest,
    },
};
use cairn_sftp::{Connection, SftpError};

use super::{
    IMAGE, SIZE_MAX, digest::Passed, digest::Passing, enter, file, load, must_be, part,
    sha256_problem,
};
use crate::{Area, backup_storage::on};

pub(crate) use turns::Uploads;

/// The largest piece.
const CHUNK_MAX: usize = 1 << 20;
/// A large file is read once more, over a slow line.
const TIME_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

const REQUEST: &str = "cairn.storage.v1alpha1.CompleteImageUploadRequest";

impl Area {
    /// Writes a piece where the one before ended; says where the next one begins.
    pub(super) async fn upload(&self, request: UploadImageChunkRequest) -> Result<u64, Fault> {
        let UploadImageChunkRequest { uuid, offset, data } = request;
        let mut check = Check::default();
        check.uuid("uuid", &uuid);
        check.within("data", data.len() as u64, 0, CHUNK_MAX as u64);
        check.within("offset", offset, 0, SIZE_MAX);
        check.finish()?;
        let mut turn = self.uploads.turn(&uuid).await;
        // Under the turn: who ends or deletes the upload takes it too.
        let image = self.store.get::<Image>(&uuid).await?;
        let image = image.ok_or_else(|| Fault::not_found(Image::NOUN, &uuid))?;
        must_be(&image, ImageStatus::Uploading, "an upload")?;
        let storage = self.backup_storage(&image.backup_storage_uuid).await?;
        let connection = match turn.connection.take() {
            Some(connection) => connection,
            None => self.connection(&storage).await?,
        };
        let part = part(&storage, &uuid);
        let next = append(&connection, &part, offset, &data).await;
        // One that failed is not used again.
        let next = next.map_err(|error| on(&storage, &error))?;
        turn.connection = Some(connection);
        match next {
            Ok(next) => Ok(next),
            Err(there) => {
                let problem = format!("is {offset}; the upload goes on at {there}");
                Err(Fault::field("offset", problem).on(Image::NOUN, &uuid))
            }
        }
    }
}

/// Where the next piece begins; or, as the error, where this one should.
async fn append(
    connection: &Connection,
    part: &str,
    offset: u64,
    data: &[u8],
) -> Result<Result<u64, u64>, SftpError> {
    let there = connection.size(part).await?.unwrap_or_default();
    if data.is_empty() {
        return Ok(Ok(there));
    }
    if there != offset {
        return Ok(Err(there));
    }
    if let Err(error) = write(connection, part, offset, data).await {
        // Many writes are under way at once: one that failed may have left a gap before one that
        // did not. If this fails too, the checksum of the whole file tells.
        let _ = connection.truncate(part, offset).await;
        return Err(error);
    }
    Ok(Ok(offset + data.len() as u64))
}

async fn write(
    connection: &Connection,
    part: &str,
    offset: u64,
    data: &[u8],
) -> Result<(), SftpError> {
    let mut writer = connection.append(part, offset).await?;
    writer.write(data).await?;
    writer.close().await
}

pub(super) struct Complete(Flow);

impl Complete {
    pub(super) fn new(flows: &mut Flows) -> Result<Self, FlowError> {
        Ok(Self(flows.of::<Self>("complete-image-upload", &[IMAGE])?))
    }
}

#[async_trait]
impl KeyedHandler for Complete {
    type Request = CompleteImageUploadRequest;
    type Resource = Image;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        check.within("file_size_bytes", request.file_size_bytes, 1, SIZE_MAX);
        if let Some(problem) = sha256_problem(&request.sha256) {
            check.refuse("sha256", problem);
        }
    }

    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<Image>, Fault> {
        let completed = self.0.run(cx, Bag::of(&*request), |tx, bag| {
            let made = bag.get::<Image>();
            Box::pin(async move {
                let made = made.unwrap_or_default();
                let mut image = load(tx, &made.uuid).await?;
                super::become_ready(tx, &mut image, &made).await?;
                Ok(image)
            })
        });
        completed.await
    }
}

/// From now on no piece is taken.
pub(super) struct EnterVerifying;

#[async_trait]
impl Step for EnterVerifying {
    fn name(&self) -> &'static str {
        "enter-image-verifying"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: CompleteImageUploadRequest = cx.get()?;
        Ok(Outcome::rows(move |tx| {
            let uuid = request.uuid.clone();
            Box::pin(async move {
                let mut image = load(tx, &uuid).await?;
                must_be(&image, ImageStatus::Uploading, "an upload")?;
                enter(tx, &mut image, ImageStatus::Verifying).await?;
                Ok(Bag::of(&image))
            })
        }))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        // The row changed in one commit with the outcome: without it there is nothing to undo.
        let Some(image) = cx.find::<Image>() else {
            return Ok(Outcome::none());
        };
        Ok(Outcome::rows(move |tx| {
            let uuid = image.uuid.clone();
            Box::pin(async move {
                let mut image = load(tx, &uuid).await?;
                enter(tx, &mut image, ImageStatus::Uploading).await?;
                Ok(Bag::new())
            })
        }))
    }
}

/// Reads what was uploaded as it is on the server, and gives it its name if it is right. If it is
/// wrong, it is removed: nobody could tell which part of it is.
pub(super) struct Verify(pub(super) Arc<Area>);

#[async_trait]
impl Step for Verify {
    fn name(&self) -> &'static str {
        "verify-image"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST, IMAGE]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[IMAGE]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let (request, mut image): (CompleteImageUploadRequest, Image) = (cx.get()?, cx.get()?);
        let storage = self.0.backup_storage(&image.backup_storage_uuid).await?;
        // A piece that came before the row changed is written to its end first.
        let turn = self.0.uploads.turn(&image.uuid).await;
        tokio::select! {
            verified = self.0.verify(cx.operation(), &storage, &request, &mut image) => verified?,
            fault = cx.operation().cancelled() => return Err(fault),
        }
        turn.end();
        image.install_path = file(&storage, &image.uuid);
        Ok(Outcome::provide(&image))
    }

    async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let image: Image = cx.get()?;
        let storage = self.0.backup_storage(&image.backup_storage_uuid).await?;
        let connection = self.0.connection(&storage).await?;
        let (part, file) = (part(&storage, &image.uuid), file(&storage, &image.uuid));
        let failed = |error| on(&storage, &error);
        if connection.size(&file).await.map_err(failed)?.is_some() {
            connection.rename(&file, &part).await.map_err(failed)?;
        }
        Ok(Outcome::none())
    }
}

impl Area {
    async fn verify(
        &self,
        operation: &OperationContext,
        storage: &BackupStorage,
        request: &CompleteImageUploadRequest,
        image: &mut Image,
    ) -> Result<(), Fault> {
        let connection = self.connection(storage).await?;
        let (part, file) = (part(storage, &image.uuid), file(storage, &image.uuid));
        let failed = |error| on(storage, &error);
        let size = connection.size(&part).await.map_err(failed)?;
        // An earlier attempt may have got that far.
        let path = match size {
            None if connection.size(&file).await.map_err(failed)?.is_some() => &file,
            _ => &part,
        };
        let wanted = request.file_size_bytes;
        let there = connection
            .size(path)
            .await
            .map_err(failed)?
            .unwrap_or_default();
        if there < wanted {
            // Not wrong, but not whole: it may go on.
            let problem = format!("is {wanted}; {there} bytes were uploaded: upload the others");
            let fault = Fault::field("file_size_bytes", problem);
            return Err(fault.on(Image::NOUN, &image.uuid));
        }
        let checked = async {
            let passed = read(operation, &connection, path, wanted)
                .await
                .map_err(failed)?;
            if passed.size != wanted {
                let problem = format!("is {wanted}; {} bytes were uploaded", passed.size);
                return Ok(Err(Fault::field("file_size_bytes", problem)));
            }
            let right = passed.must_be(image, &request.sha256);
            Ok::<_, Fault>(right.and_then(|()| passed.describe(image)))
        };
        if let Err(wrong) = checked.await? {
            connection.remove(path).await.map_err(failed)?;
            return Err(removed(wrong).on(Image::NOUN, &image.uuid));
        }
        if path == &part {
            let writer = connection.append(&part, wanted).await.map_err(failed)?;
            writer.finish().await.map_err(failed)?;
            connection.rename(&part, &file).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The same fault, which also says what became of the file.
fn removed(wrong: Fault) -> Fault {
    let more = |text: &str| format!("{text}; what was uploaded is removed, upload it again");
    let fields = wrong.fields.iter();
    let fields: Vec<_> = fields
        .map(|(field, problem)| (field.clone(), more(problem)))
        .collect();
    match fields.is_empty() {
        true => Fault::new(wrong.code, more(&wrong.message)),
        false => Fault::fields(fields),
    }
}

async fn read(
    operation: &OperationContext,
    connection: &Connection,
    path: &str,
    total: u64,
) -> Result<Passed, SftpError> {
    let (mut reader, mut passing) = (connection.read(path).await?, Passing::new());
    let mut told = 0;
    while let Some(block) = reader.next().await? {
        passing.take(&block);
        let percent = u32::try_from(passing.size().saturating_mul(98) / total.max(1));
        let percent = percent.unwrap_or(98).min(98);
        if percent > told {
            told = percent;
            operation.progress(percent, "reading what was uploaded");
        }
    }
    Ok(passing.end())
}
