//! Fetches images: over HTTP, or from the host's own files.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use ring::digest::{Context, Digest, SHA256};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use crate::KvmError;

/// How long a server may keep silent. The whole has no limit but the command's.
const SILENCE: Duration = Duration::from_secs(30);
const BLOCK: usize = 1 << 18;

/// Writes what is at the address to a file; gives its size and its SHA-256 in hex.
pub(super) async fn fetch(url: &str, to: &Path) -> Result<(u64, String), KvmError> {
    let mut source = Source::open(url).await?;
    let failed = || KvmError::file(to);
    let mut file = File::create(to).await.map_err(failed())?;
    let (mut size, mut digest) = (0, Context::new(&SHA256));
    while let Some(bytes) = source.next(url).await? {
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
    let url = path.display().to_string();
    let file = File::open(path).await.map_err(KvmError::file(path))?;
    let (mut source, mut digest) = (Source::File(file), Context::new(&SHA256));
    while let Some(bytes) = source.next(&url).await? {
        digest.update(&bytes);
    }
    Ok(hex(&digest.finish()))
}

enum Source {
    Http(reqwest::Response),
    File(File),
}

impl Source {
    async fn open(url: &str) -> Result<Self, KvmError> {
        match url.split_once("://") {
            Some(("file", path)) => {
                let path = super::checked(path)?;
                let file = File::open(path).await.map_err(KvmError::file(path))?;
                Ok(Self::File(file))
            }
            Some(("http" | "https", _)) => {
                let failed = failed(url);
                let response = client()?.get(url).send().await.map_err(failed)?;
                let response = response.error_for_status().map_err(failed)?;
                Ok(Self::Http(response))
            }
            _ => Err(KvmError::Invalid(format!(
                "`{url}` does not begin with http://, https:// or file://"
            ))),
        }
    }

    async fn next(&mut self, url: &str) -> Result<Option<Bytes>, KvmError> {
        match self {
            Self::Http(response) => response.chunk().await.map_err(failed(url)),
            Self::File(file) => {
                let mut block = Vec::with_capacity(BLOCK);
                file.take(BLOCK as u64)
                    .read_to_end(&mut block)
                    .await
                    .map_err(KvmError::file(url))?;
                Ok((!block.is_empty()).then(|| block.into()))
            }
        }
    }
}

fn failed(url: &str) -> impl Fn(reqwest::Error) -> KvmError + Copy {
    move |cause| KvmError::Fetch {
        url: url.to_owned(),
        // The address is in our own words already.
        cause: cause.without_url(),
    }
}

/// Trusts whom the host's operating system trusts: images come from anywhere.
fn client() -> Result<reqwest::Client, KvmError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(KvmError::Client)?
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .build()
        .map_err(|cause| KvmError::Fetch {
            url: "anything".to_owned(),
            cause,
        })
}

fn hex(digest: &Digest) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
