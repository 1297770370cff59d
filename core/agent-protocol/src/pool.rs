//! Commands for a storage pool on a host: a folder with cached images and volumes. Each is
//! idempotent: what is there already, or gone already, is a success.

use serde::{Deserialize, Serialize};

use cairn_types::Uuid;

use crate::Secret;

/// Gets to know a storage pool; makes its folder if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFacts {
    /// The folder of the storage pool on the host.
    pub path: String,
}

/// What a storage pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpace {
    /// Size of its file system.
    pub total_bytes: u64,
    /// What of it is free.
    pub available_bytes: u64,
}

/// Brings an image to a host, as a file that volumes can be linked clones of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheImage {
    /// The image.
    pub image: Uuid,
    /// Where it comes from.
    pub source: SftpFile,
    /// SHA-256 of the file in hex: another content is a failure.
    pub sha256: String,
    /// The file to make.
    pub path: String,
}

/// A file on an SFTP server, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SftpFile {
    /// `host:port`
    pub address: String,
    /// The user there.
    pub username: String,
    /// The server's public key, in OpenSSH's form: another server is refused.
    pub host_key: String,
    /// The private key to authenticate with, in OpenSSH's form. For the memory of the agent, and
    /// no longer than the command runs.
    pub private_key: Secret,
    /// The file on the server.
    pub path: String,
}

/// A cached image on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Size of its file.
    pub size_bytes: u64,
}

/// Removes a cached image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteImage {
    /// The image.
    pub image: Uuid,
    /// Its file.
    pub path: String,
}
