//! Files that are whole or absent, and readable by their owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cairn_types::Uuid;

/// Writes a file (mode 0600) so that a reader, or a restart after a crash, sees the old content
/// or the new, never a part. It is on disk when this returns. Blocks.
///
/// # Errors
/// What the system said; the old content is then still there.
pub fn write_private_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, contents)?;
    let renamed = fs::rename(&temporary, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed.and_then(|()| sync_folder_of(path))
}

/// Like [`write_private_file`], but leaves a file that is there already as it is: of two
/// processes that create it at once, both go on with the one that won.
pub(crate) fn create_private_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, contents)?;
    // Unlike a rename, a link fails if its name is taken.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.and_then(|()| sync_folder_of(path)),
    }
}

fn write_temporary(path: &Path, contents: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", Uuid::new_v4().simple()));
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if let Err(cause) = written {
        let _ = fs::remove_file(&temporary);
        return Err(cause);
    }
    Ok(temporary)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
