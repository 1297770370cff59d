//! The files of images on a backup storage, held against rows. Of what its folder `images` has, only
//! half made files are removed: whatever else is there may be somebody's data.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use cairn_inspect::Suspect;
use cairn_proto::{
    fault::Fault,
    meta::Resource as _,
    storage::v1alpha1::{BackupStorage, BackupStorageStatus, Image, ImageStatus as Status},
};
use cairn_sftp::Entry;
use cairn_types::{ErrorCode, Uuid};
use tokio::time::timeout;

use crate::{
    Area,
    backup_storage::{PROBE, images, on},
    image::part,
};

/// What one examination or one fix may take: shorter than its caller waits.
const LIMIT: Duration = Duration::from_secs(8);

/// What a person does about an image without a file, or with another one.
const LOST: &str = "bring the file back from a backup of your own, or delete the image; hosts that \
                    have a copy of it go on to use that";
/// What a person does about a file of which nobody knows what it is.
const STRANGE: &str = "no fix removes what may be somebody's data: see for yourself whether it is \
                       needed, and remove it by hand";

impl Area {
    /// What a backup storage and the rows do not agree on; nothing if there is no such storage.
    ///
    /// # Errors
    /// `Unavailable` if its server is away; what the server says.
    pub(super) async fn examine_backup_storage(&self, uuid: &str) -> Result<Vec<Suspect>, Fault> {
        let Some(storage) = self.store.get::<BackupStorage>(uuid).await? else {
            return Ok(Vec::new());
        };
        must_be_connected(&storage)?;
        let folder = images(&storage);
        let listed = async {
            let listed = self.connection(&storage).await?.list(&folder).await;
            listed.map_err(|error| on(&storage, &error))
        };
        let has = in_time(&storage, listed).await?;
        // The rows after the files: see the extension point.
        let on_it = "backup_storage_uuid = ?";
        let on_it: Vec<Image> = self.store.list(on_it, vec![uuid.into()]).await?;
        let mut known: HashMap<_, _> = on_it.into_iter().map(|it| (it.uuid.clone(), it)).collect();
        for image in has.iter().filter_map(|entry| Name::of(entry).image()) {
            if !known.contains_key(&image)
                && let Some(row) = self.store.get::<Image>(&image).await?
            {
                known.insert(image, row);
            }
        }
        Ok(compare(&has, &storage, &known))
    }

    /// Removes a half made file, unless its image is on its way by now.
    ///
    /// # Errors
    /// As [`Area::examine_backup_storage`].
    pub(super) async fn remove_part(&self, storage: &str, path: &str) -> Result<(), Fault> {
        let Some(storage) = self.store.get::<BackupStorage>(storage).await? else {
            return Ok(());
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        let Some(image) = name.strip_suffix(PART).and_then(uuid_of) else {
            return Ok(());
        };
        must_be_connected(&storage)?;
        let removed = async {
            // Whoever writes to it has the turn, and looks at the row after that.
            let turn = self.uploads.turn(&image).await;
            let row = self.store.get::<Image>(&image).await?;
            if !row.is_some_and(|image| is_on_its_way(&image)) {
                let connection = self.connection(&storage).await?;
                let removed = connection.remove(&part(&storage, &image)).await;
                removed.map_err(|error| on(&storage, &error))?;
            }
            turn.end();
            Ok(())
        };
        in_time(&storage, removed).await
    }
}

fn must_be_connected(storage: &BackupStorage) -> Result<(), Fault> {
    let status = storage.status();
    if status == BackupStorageStatus::Connected {
        return Ok(());
    }
    let message = format!("the backup storage is {status:?}");
    let fault = Fault::new(ErrorCode::Unavailable, message);
    Err(fault.on(BackupStorage::NOUN, &storage.uuid))
}

async fn in_time<T>(
    storage: &BackupStorage,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(LIMIT, work).await.unwrap_or_else(|_| {
        let message = format!("its server did not answer within {} s", LIMIT.as_secs());
        let fault = Fault::new(ErrorCode::Unavailable, message);
        Err(fault.on(BackupStorage::NOUN, &storage.uuid))
    })
}

/// After the uuid, of a file that is half made.
const PART: &str = ".part";

/// What a name in the folder says.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    /// What a look at the server leaves for a moment.
    Probe,
    /// The file of that image.
    Whole(String),
    /// That of an image that is being made.
    Part(String),
    Strange,
}

impl Name {
    fn of(entry: &Entry) -> Self {
        let part = entry.name.strip_suffix(PART);
        match (uuid_of(&entry.name), part.and_then(uuid_of)) {
            _ if !entry.is_file => Self::Strange,
            _ if entry.name == PROBE => Self::Probe,
            (Some(image), _) => Self::Whole(image),
            (_, Some(image)) => Self::Part(image),
            _ => Self::Strange,
        }
    }

    fn image(self) -> Option<String> {
        match self {
            Self::Whole(image) | Self::Part(image) => Some(image),
            Self::Probe | Self::Strange => None,
        }
    }
}

/// The uuid that a text is, written as in rows.
fn uuid_of(text: &str) -> Option<String> {
    let uuid = text.parse::<Uuid>().ok()?.to_string();
    (uuid == text).then_some(uuid)
}

/// Whether an image has its file, as its row says.
fn has_file(image: &Image) -> bool {
    matches!(image.status(), Status::Ready | Status::Deleted)
}

/// Whether there may be a half made file of an image.
fn is_on_its_way(image: &Image) -> bool {
    !has_file(image)
}

/// What the two do not agree on. `known` are the images of the storage, and whichever else the files
/// are named after, by their uuids. Pure: no table is read here.
fn compare(has: &[Entry], storage: &BackupStorage, known: &HashMap<String, Image>) -> Vec<Suspect> {
    let folder = images(storage);
    let path = |name: &str| format!("{folder}/{name}");
    let mut suspects = Vec::new();
    let mut whole = HashSet::new();
    for entry in has {
        let path = path(&entry.name);
        let suspect = match Name::of(entry) {
            Name::Probe => None,
            Name::Whole(image) => {
                let suspect = of_whole(&path, entry.size, storage, known.get(&image));
                let suspect = suspect.map(|it| of_image(it, &image, known));
                whole.insert(image);
                suspect
            }
            Name::Part(image) if known.get(&image).is_some_and(is_on_its_way) => None,
            Name::Part(image) => {
                let detail = "it is half made, and nobody is at it";
                let suspect = Suspect::extra("part-file", &path, detail).repair();
                Some(of_image(suspect, &image, known))
            }
            Name::Strange => {
                let suspect = Suspect::extra("file", &path, "nobody knows it");
                Some(suspect.advise(STRANGE))
            }
        };
        suspects.extend(suspect);
    }
    let mut lost: Vec<_> = known
        .values()
        .filter(|image| image.backup_storage_uuid == storage.uuid && has_file(image))
        .filter(|image| !whole.contains(&image.uuid))
        .collect();
    lost.sort_by(|one, other| one.uuid.cmp(&other.uuid));
    for image in lost {
        let detail = format!(
            "the image is {:?}, and its file is not there",
            image.status()
        );
        let suspect = Suspect::missing("image-file", path(&image.uuid), detail).advise(LOST);
        suspects.push(of_image(suspect, &image.uuid, known));
    }
    suspects
}

/// A file that has the name of an image's: whether it is not that, or otherwise.
fn of_whole(
    path: &str,
    size: u64,
    storage: &BackupStorage,
    image: Option<&Image>,
) -> Option<Suspect> {
    let extra = |detail| Some(Suspect::extra("image-file", path, detail).advise(STRANGE));
    let Some(image) = image else {
        return extra("there is no such image");
    };
    let right = image.file_size_bytes;
    if image.backup_storage_uuid != storage.uuid {
        extra("the image is not on this backup storage")
    } else if image.status() == Status::Uploading {
        extra("the image waits for its file to be uploaded")
    } else if has_file(image) && right != 0 && size != right {
        let detail = format!("it has {size} bytes; the image's file has {right}");
        Some(Suspect::differs("image-file", path, detail).advise(LOST))
    } else {
        None
    }
}

/// An operation may be at an image of which there is no row any more, or yet.
fn of_image(suspect: Suspect, image: &str, known: &HashMap<String, Image>) -> Suspect {
    let suspect = suspect.queued_at(Image::NOUN, image).concerns(image);
    match known.contains_key(image) {
        true => suspect.of(Image::NOUN, image),
        false => suspect,
    }
}

#[cfg(test)]
mod tests;
