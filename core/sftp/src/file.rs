//! A file that is written or read in blocks, many requests under way at once.

use std::io::{self, SeekFrom};

use bytes::Bytes;
use russh_sftp::client::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::{Connection, SftpError};

/// The most that [`Reader::next`] gives at once, in bytes.
pub const BLOCK: usize = 1 << 18;

/// A file to write. What was written is there for certain once [`Writer::finish`] has returned.
pub struct Writer<'a> {
    on: &'a Connection,
    path: String,
    file: File,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(on: &'a Connection, path: &str, file: File) -> Self {
        let path = path.to_owned();
        Self { on, path, file }
    }

    pub(crate) async fn at(mut self, offset: u64) -> Result<Self, SftpError> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        let sought = self.on.answered(sought, ended).await;
        match sought {
            Ok(_) => Ok(self),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    /// Writes more.
    ///
    /// # Errors
    /// As the server says, perhaps of what was written before.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SftpError> {
        match self.on.answered(self.file.write_all(bytes), ended).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    /// Waits until the server has it all, on its disk if it can promise that.
    ///
    /// # Errors
    /// As the server says.
    pub async fn finish(mut self) -> Result<(), SftpError> {
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await.map_err(io::Error::from)?;
            self.file.shutdown().await
        };
        match self.on.answered(synced, ended).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    /// Waits until the server has taken it all, which a crash of the server may still lose.
    ///
    /// # Errors
    /// As the server says.
    pub async fn close(mut self) -> Result<(), SftpError> {
        match self.on.answered(self.file.shutdown(), ended).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    async fn failed(&self, error: &io::Error) -> SftpError {
        let failed = of_io(self.on, "write", &self.path, error);
        // SFTP has no word for a full disk: a write just fails.
        if matches!(failed, SftpError::Failed { .. }) {
            let folder = self.path.rsplit_once('/').map_or("/", |(folder, _)| folder);
            if let Ok(Some(space)) = self.on.space(folder).await
                && space.available < BLOCK as u64
            {
                return SftpError::Full {
                    address: self.on.address.clone(),
                    path: self.path.clone(),
                    available: space.available,
                };
            }
        }
        failed
    }
}

/// A file to read.
pub struct Reader<'a> {
    on: &'a Connection,
    path: String,
    file: File,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(on: &'a Connection, path: &str, file: File) -> Self {
        let path = path.to_owned();
        Self { on, path, file }
    }

    /// The next bytes, none at the end.
    ///
    /// # Errors
    /// As the server says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SftpError> {
        let mut block = Vec::with_capacity(BLOCK);
        let mut part = (&mut self.file).take(BLOCK as u64);
        let read = part.read_to_end(&mut block);
        match self.on.answered(read, ended).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(block.into())),
            Err(error) => Err(of_io(self.on, "read", &self.path, &error)),
        }
    }
}

fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn of_io(on: &Connection, what: &'static str, path: &str, error: &io::Error) -> SftpError {
    let (address, words) = (on.address.clone(), error.to_string());
    // What is under way when a connection ends is dropped, and that is all that is said of it.
    let dropped = words.contains("sender dropped") || words.contains("session closed");
    if on.is_lost() || dropped || error.kind() == io::ErrorKind::TimedOut {
        return SftpError::Lost { address, words };
    }
    SftpError::Failed {
        address,
        what,
        path: path.to_owned(),
        words,
    }
}
