//! Folders: that they are there, and what is in them.

use russh_sftp::protocol::{FileAttributes, StatusCode};

use super::{Connection, is};
use crate::SftpError;

/// What a folder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Whether it is a plain file, or a link to one, and nothing else.
    pub is_file: bool,
    /// The size of what it is or leads to, in bytes.
    pub size: u64,
}

impl Connection {
    /// Sees to a folder below one that is there: it is made if it is missing.
    ///
    /// # Errors
    /// If it is something else, or the one above it is missing.
    pub async fn make_folder(&self, path: &str) -> Result<(), SftpError> {
        match self.attributes(path).await? {
            Some(found) => self.must_be_folder(path, &found),
            None => {
                let made = self.ask(self.session.create_dir(path)).await;
                made.map_err(|error| self.failed("make", path, &error))
            }
        }
    }

    /// That a path is a folder.
    ///
    /// # Errors
    /// If it is not there, or is something else.
    pub async fn check_folder(&self, path: &str) -> Result<(), SftpError> {
        let found = self.attributes(path).await?;
        let found = found.ok_or_else(|| self.not_found(path))?;
        self.must_be_folder(path, &found)
    }

    /// What is in a folder, in the order of its names; one that is not there has nothing.
    ///
    /// # Errors
    /// As the server says.
    pub async fn list(&self, path: &str) -> Result<Vec<Entry>, SftpError> {
        let listed = match self.ask(self.session.read_dir(path)).await {
            Ok(listed) => listed,
            Err(error) if is(&error, StatusCode::NoSuchFile) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("list", path, &error)),
        };
        let mut entries = Vec::new();
        for entry in listed {
            // Of a link, a listing tells the link itself.
            let found = match entry.file_type().is_symlink() {
                true => self.attributes(&entry.path()).await?,
                false => Some(entry.metadata()),
            };
            let found = found.unwrap_or_else(FileAttributes::empty);
            entries.push(Entry {
                name: entry.file_name(),
                is_file: found.is_regular(),
                size: found.size.unwrap_or_default(),
            });
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn must_be_folder(&self, path: &str, found: &FileAttributes) -> Result<(), SftpError> {
        if found.is_dir() {
            return Ok(());
        }
        Err(SftpError::NoFolder {
            address: self.address.clone(),
            path: path.to_owned(),
        })
    }
}
