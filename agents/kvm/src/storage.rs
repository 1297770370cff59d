//! Storage pools: folders with cached images and the volumes that are linked clones of them.
//!
//! A file that has its name is whole: it is made under another one, written to the disk, and
//! renamed. What is half made goes with the command that made it.

mod fetch;

use std::{
    io::ErrorKind,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tokio::fs;

use crate::{KvmError, programs::Programs};
use cairn_agent_protocol::{
    CacheImage, CreateVolume, DeleteImage, DeleteVolume, ImageFacts, PoolFile, PoolSpace,
    VolumeFacts,
};
use cairn_types::Uuid;

/// How long `qemu-img` may take: it only reads and writes headers here.
const LIMIT: Duration = Duration::from_secs(60);

/// The folders of a pool.
const FOLDERS: [&str; 2] = ["volumes", "images"];

/// The storage of the host.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    pub(crate) programs: Programs,
}

/// What `qemu-img info` tells of a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageInfo {
    format: String,
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    format_specific: FormatSpecific,
}

#[derive(Debug, Default, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    data_file: Option<String>,
}

impl Storage {
    /// Makes a pool's folder, and tells of its file system.
    pub(crate) async fn pool_facts(&self, path: &str) -> Result<PoolSpace, KvmError> {
        let path = checked(path)?;
        fs::create_dir_all(path)
            .await
            .map_err(KvmError::file(path))?;
        let space = rustix::fs::statvfs(path)
            .map_err(std::io::Error::from)
            .map_err(KvmError::file(path))?;
        Ok(PoolSpace {
            total_bytes: space.f_blocks * space.f_frsize,
            available_bytes: space.f_bavail * space.f_frsize,
        })
    }

    /// Brings an image into a pool.
    pub(crate) async fn cache_image(&self, command: &CacheImage) -> Result<ImageFacts, KvmError> {
        let path = checked(&command.path)?;
        if let Some(size_bytes) = size_of(path).await? {
            let there = fetch::digest_of(path).await?;
            if there.eq_ignore_ascii_case(&command.sha256) {
                return Ok(ImageFacts { size_bytes });
            }
        }
        let part = Part::of(path).await?;
        let (size_bytes, digest) = fetch::fetch(&command.source, &part.path).await?;
        let (from, sha256) = (&command.source.path, &command.sha256);
        if !digest.eq_ignore_ascii_case(sha256) {
            return Err(KvmError::Refused(format!(
                "{from} on {} has the SHA-256 {digest}, not {sha256}",
                command.source.address
            )));
        }
        // Its bytes are anybody's. A file that it named as its base, or as its data, would be
        // read on this host and shown to whoever uses the image.
        let info = self.info(&part.path).await?;
        if !matches!(info.format.as_str(), "qcow2" | "raw")
            || info.backing_filename.is_some()
            || info.format_specific.data.data_file.is_some()
        {
            return Err(KvmError::Refused(format!(
                "{from} is not a raw or qcow2 image that stands on its own"
            )));
        }
        part.finish(path).await?;
        Ok(ImageFacts { size_bytes })
    }

    /// Removes an image from a pool.
    pub(crate) async fn delete_image(&self, command: &DeleteImage) -> Result<(), KvmError> {
        remove(checked(&command.path)?).await
    }

    /// Makes a volume.
    pub(crate) async fn create_volume(
        &self,
        command: &CreateVolume,
    ) -> Result<VolumeFacts, KvmError> {
        let path = volume_path(&command.pool_path, command.volume)?;
        let facts = VolumeFacts {
            path: path.display().to_string(),
            size_bytes: command.size_bytes,
        };
        if size_of(&path).await?.is_some() {
            let info = self.info(&path).await?;
            if info.virtual_size == command.size_bytes && info.backing_filename == command.template
            {
                return Ok(facts);
            }
            return Err(KvmError::Invalid(format!(
                "the volume is there with another size or template: {info:?}"
            )));
        }
        let part = Part::of(&path).await?;
        let (part_path, size) = (
            part.path.display().to_string(),
            command.size_bytes.to_string(),
        );
        let mut words = vec!["create", "-q", "-f", "qcow2"];
        let format;
        if let Some(template) = &command.template {
            let info = self.info(checked(template)?).await?;
            if info.virtual_size > command.size_bytes {
                return Err(KvmError::Invalid(format!(
                    "a volume of {size} bytes is smaller than its template, which has {}",
                    info.virtual_size
                )));
            }
            format = info.format;
            words.extend(["-b", template, "-F", &format]);
        }
        words.extend([&*part_path, &*size]);
        self.programs.run("qemu-img", &words, LIMIT).await?;
        part.finish(&path).await?;
        Ok(facts)
    }

    /// Removes a volume.
    pub(crate) async fn delete_volume(&self, command: &DeleteVolume) -> Result<(), KvmError> {
        remove(&volume_path(&command.pool_path, command.volume)?).await
    }

    /// Removes a file of a pool, whatever it is.
    pub(crate) async fn remove_file(&self, path: &str) -> Result<(), KvmError> {
        let path = checked(path)?;
        let folder = path.parent().and_then(Path::file_name);
        if !folder.is_some_and(|name| FOLDERS.iter().any(|folder| name == *folder)) {
            let text = format!("`{}` is no file of a pool", path.display());
            return Err(KvmError::Invalid(text));
        }
        remove(path).await
    }

    /// The files of volumes and images in a pool, whole or not.
    pub(crate) async fn files(&self, pool: &str) -> Result<Vec<PoolFile>, KvmError> {
        let mut files = Vec::new();
        for folder in FOLDERS {
            let folder = checked(pool)?.join(folder);
            let mut entries = match fs::read_dir(&folder).await {
                Ok(entries) => entries,
                Err(cause) if is_none(&cause) => continue,
                Err(cause) => return Err(KvmError::file(folder)(cause)),
            };
            while let Some(entry) = entries
                .next_entry()
                .await
                .map_err(KvmError::file(&folder))?
            {
                // One that went since it was listed is not there.
                if let Some(size_bytes) = size_of(&entry.path()).await? {
                    let path = entry.path().display().to_string();
                    files.push(PoolFile { path, size_bytes });
                }
            }
        }
        Ok(files)
    }

    /// Of a file that a running virtual machine may have open.
    async fn info(&self, path: &Path) -> Result<ImageInfo, KvmError> {
        let path = path.display().to_string();
        let words = ["info", "--force-share", "--output=json", &path];
        self.programs.ask("qemu-img", &words, LIMIT).await
    }
}

/// A file under another name until it is whole. Dropped before that, it goes.
struct Part {
    path: PathBuf,
}

impl Part {
    /// For a file at `path`, whose folder is made.
    async fn of(path: &Path) -> Result<Self, KvmError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .await
                .map_err(KvmError::file(folder))?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        Ok(Self {
            path: path.with_file_name(name),
        })
    }

    async fn finish(self, path: &Path) -> Result<(), KvmError> {
        let synced = async {
            fs::File::open(&self.path).await?.sync_all().await?;
            fs::rename(&self.path, path).await?;
            match path.parent() {
                Some(folder) => fs::File::open(folder).await?.sync_all().await,
                None => Ok(()),
            }
        };
        synced.await.map_err(KvmError::file(path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn volume_path(pool: &str, volume: Uuid) -> Result<PathBuf, KvmError> {
    Ok(checked(pool)?.join(format!("volumes/{volume}.qcow2")))
}

/// A path means the same file whatever the folder that a program is in.
fn checked(text: &str) -> Result<&Path, KvmError> {
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    match path.is_absolute() && !climbs {
        true => Ok(path),
        false => Err(KvmError::Invalid(format!("`{text}` is no absolute path"))),
    }
}

/// Whether there is no such folder: what was a pool once may be another's file by now.
fn is_none(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

async fn size_of(path: &Path) -> Result<Option<u64>, KvmError> {
    match fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(KvmError::file(path)(cause)),
    }
}

async fn remove(path: &Path) -> Result<(), KvmError> {
    match fs::remove_file(path).await {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(KvmError::file(path)(cause)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
