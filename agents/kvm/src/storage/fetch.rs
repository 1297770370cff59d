//! Fetches images from backup storages, over SFTP.

use std::{fmt::Write as _, path::Path};

use ring::digest::{Context, Digest, SHA256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use crate::KvmError;
use cairn_agent_protocol::SftpFile;
use cairn_sftp::{BLOCK, Connection, Endpoint, InvalidHostKey, SshKey};

/// Writes a file of a server to one of the host; gives its size and its SHA-256 in hex. The key
/// that the server asks for is in memory only, and gone when this returns.
pub(super) async fn fetch(source: &SftpFile, to: &Path) -> Result<(u64, String), KvmError> {
    let host_key = source.host_key.parse();
    let host_key = host_key.map_err(|error: InvalidHostKey| {
        KvmError::Invalid(format!("the host key of {} {error}", source.address))
    })?;
    let endpoint = Endpoint {
        address: source.address.clone(),
        username: source.username.clone(),
        // Never learned here: a host takes the server that the node knows.
        host_key: Some(host_key),
    };
    let key = SshKey::from_openssh(source.private_key.reveal())?;
    let connection = Connection::open(&endpoint, &key).await?;
    let mut reader = connection.read(&source.path).await?;
    let failed = || KvmError::file(to);
    let mut file = File::create(to).await.map_err(failed())?;
    let (mut size, mut digest) = (0, Context::new(&SHA256));
    while let Some(bytes) = reader.next().await? {
        size += bytes.len() as u64;
        digest.update(&bytes);
        file.write_all(&bytes).await.map_err(failed())?;
    }
    // Without this, the last write may still be under way.
    file.flush().await.map_err(failed())?;
    Ok((size, hex(&digest.finish())))
}

/// The SHA-256 of a file, in hex.
pub(super) async fn digest_of(path: &Path) -> Result<String, KvmError> {
    let failed = || KvmError::file(path);
    let mut file = File::open(path).await.map_err(failed())?;
    let (mut block, mut digest) = (vec![0; BLOCK], Context::new(&SHA256));
    loop {
        match file.read(&mut block).await.map_err(failed())? {
            0 => return Ok(hex(&digest.finish())),
            length => digest.update(&block[..length]),
        }
    }
}

fn hex(digest: &Digest) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
