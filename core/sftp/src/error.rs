//! What can go wrong with a server, said so that its operator knows what to do.

use std::{io, path::PathBuf};

use cairn_types::{Coded, ErrorCode};

/// Why something could not be done on an SFTP server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SftpError {
    /// Nobody answers there.
    #[error("SFTP server {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Who answers there does not speak SSH as it should.
    #[error("SFTP server {address} does not speak SSH as it should")]
    Protocol {
        /// Where.
        address: String,
        /// What was wrong.
        #[source]
        cause: russh::Error,
    },
    /// It took too long.
    #[error("SFTP server {address} did not {what} within {secs} seconds")]
    TimedOut {
        /// Where.
        address: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        secs: u64,
    },
    /// The connection went while it was needed.
    #[error("the connection to SFTP server {address} was lost: {words}")]
    Lost {
        /// Where.
        address: String,
        /// What is known.
        words: String,
    },
    /// It is not the server that it should be.
    #[error(
        "SFTP server {address} shows another host key than the one that is known: it shows \
         `{shown}`, known is `{known}`; if the server has a new key, give that as host key, and if \
         it has not, somebody is in between"
    )]
    HostKey {
        /// Where.
        address: String,
        /// What it is known by.
        known: String,
        /// What it showed.
        shown: String,
    },
    /// It does not let the cloud in.
    #[error(
        "SFTP server {address} refuses the key of user `{username}`; add this line to the user's \
         authorized_keys there: {public_key}"
    )]
    Refused {
        /// Where.
        address: String,
        /// As whom.
        username: String,
        /// The key to authorise.
        public_key: String,
    },
    /// It lets the cloud in, but not to files.
    #[error("SSH server {address} has no SFTP for user `{username}`; enable its sftp subsystem")]
    NoSftp {
        /// Where.
        address: String,
        /// As whom.
        username: String,
    },
    /// There is no such file.
    #[error("there is no {path} on SFTP server {address}")]
    NotFound {
        /// Where.
        address: String,
        /// The file.
        path: String,
    },
    /// It is there and is no folder.
    #[error("{path} on SFTP server {address} is no folder")]
    NoFolder {
        /// Where.
        address: String,
        /// The file.
        path: String,
    },
    /// The user may not.
    #[error("user `{username}` may not {what} {path} on SFTP server {address}")]
    Permission {
        /// Where.
        address: String,
        /// As whom.
        username: String,
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
    },
    /// It is full.
    #[error("SFTP server {address} has no space for {path}: {available} bytes are left")]
    Full {
        /// Where.
        address: String,
        /// The file.
        path: String,
        /// What is left.
        available: u64,
    },
    /// It failed for a reason of its own.
    #[error("SFTP server {address} failed to {what} {path}: {words}")]
    Failed {
        /// Where.
        address: String,
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// What it said.
        words: String,
    },
    /// The file with the cloud's key cannot be used.
    #[error("access the SSH key {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It is no key, or one with a passphrase.
    #[error("the SSH key is no private key in OpenSSH form without a passphrase")]
    Key,
}

impl Coded for SftpError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Lost { .. } => {
                ErrorCode::Unavailable
            }
            Self::Full { .. } => ErrorCode::OutOfCapacity,
            Self::KeyFile { .. } | Self::Key => ErrorCode::Internal,
            _ => ErrorCode::StorageFailed,
        }
    }
}
