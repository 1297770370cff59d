//! Where an image comes from: a server over HTTP, or a file of the node.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use cairn_types::{Coded, ErrorCode};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{fs::File, io::AsyncReadExt as _};

/// How long a server may keep silent. The whole has no limit but the operation's.
const SILENCE: Duration = Duration::from_secs(30);
const BLOCK: u64 = 1 << 18;
/// The longest URL, in bytes.
const URL_MAX: usize = 2_048;

/// Why an image cannot be had from its URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The server refused, failed, or fell silent.
    #[error("fetch {url}")]
    Fetch {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    /// The file cannot be read.
    #[error("read {url} on the node")]
    File {
        url: String,
        #[source]
        cause: io::Error,
    },
    /// The file is none that images are made of.
    #[error("{url} {problem}")]
    Refused { url: String, problem: &'static str },
    /// The client cannot be made.
    #[error("make the client for downloads")]
    Client(#[source] rustls::Error),
}

impl Coded for SourceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fetch { cause, .. } if cause.status().is_none() => ErrorCode::Unavailable,
            Self::Client(_) => ErrorCode::Internal,
            _ => ErrorCode::InvalidArgument,
        }
    }

    fn fields(&self) -> Vec<(String, String)> {
        match self.code() {
            ErrorCode::InvalidArgument => vec![("url".to_owned(), cairn_types::chain(self))],
            _ => Vec::new(),
        }
    }
}

/// A file that comes.
pub(super) struct Source {
    url: String,
    from: From,
}

enum From {
    Http(reqwest::Response),
    File(File, u64),
}

impl Source {
    /// Begins; of the node's own files none in the folder `private` is given.
    pub(super) async fn open(url: &str, private: &Path) -> Result<Self, SourceError> {
        let from = match url.strip_prefix("file://") {
            Some(path) => file(url, Path::new(path), private).await?,
            None => {
                let failed = failed(url);
                let response = client()?.get(url).send().await.map_err(failed)?;
                From::Http(response.error_for_status().map_err(failed)?)
            }
        };
        let url = url.to_owned();
        Ok(Self { url, from })
    }

    /// How much comes, in bytes, if that is known.
    pub(super) fn size(&self) -> Option<u64> {
        match &self.from {
            From::Http(response) => response.content_length(),
            From::File(_, size) => Some(*size),
        }
    }

    /// The next bytes, none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        match &mut self.from {
            From::Http(response) => response.chunk().await.map_err(failed(&self.url)),
            From::File(file, _) => {
                let mut block = Vec::new();
                let read = file.take(BLOCK).read_to_end(&mut block).await;
                read.map_err(|cause| SourceError::File {
                    url: self.url.clone(),
                    cause,
                })?;
                Ok((!block.is_empty()).then(|| block.into()))
            }
        }
    }
}

async fn file(url: &str, path: &Path, private: &Path) -> Result<From, SourceError> {
    let unreadable = |cause| SourceError::File {
        url: url.to_owned(),
        cause,
    };
    let refused = |problem| SourceError::Refused {
        url: url.to_owned(),
        problem,
    };
    let real = tokio::fs::canonicalize(path).await.map_err(unreadable)?;
    let private = tokio::fs::canonicalize(private).await.map_err(unreadable)?;
    if real.starts_with(private) {
        return Err(refused("is a file of the node itself; give another"));
    }
    let metadata = tokio::fs::metadata(&real).await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refused("is no plain file; give one"));
    }
    let file = File::open(&real).await.map_err(unreadable)?;
    Ok(From::File(file, metadata.len()))
}

fn failed(url: &str) -> impl Fn(reqwest::Error) -> SourceError + Copy {
    move |cause| SourceError::Fetch {
        url: url.to_owned(),
        // The address is in our own words already.
        cause: cause.without_url(),
    }
}

/// Trusts whom the node's operating system trusts: images come from anywhere.
fn client() -> Result<reqwest::Client, SourceError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(SourceError::Client)?
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .build()
        .map_err(failed("anything"))
}

/// What is wrong with a URL.
pub(super) fn url_problem(url: &str) -> Option<String> {
    let example = "give a URL, as in https://images.example/debian.qcow2";
    let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let file = rest.strip_prefix('/').unwrap_or_default();
    if url.len() > URL_MAX {
        Some(format!("has {} bytes; {URL_MAX} is the most", url.len()))
    } else if !visible {
        Some(format!(
            "has characters that no URL has; {example}, with %20 for a space"
        ))
    } else {
        match scheme {
            "http" | "https" if !place.is_empty() => None,
            "http" | "https" => Some(format!("names no machine; {example}")),
            "file" if !file.is_empty() => None,
            "file" => {
                Some("names no file; give an absolute path, as in file:///srv/a.qcow2".into())
            }
            _ => Some(format!(
                "has none of the schemes http, https and file; {example}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_place() {
        for good in [
            "http://a/b",
            "https://images.example:8443/debian.qcow2?v=1",
            "https://a",
            "file:///srv/a.qcow2",
        ] {
            assert_eq!(url_problem(good), None, "{good}");
        }
        let long = format!("http://a/{}", "x".repeat(URL_MAX));
        for bad in [
            "",
            "a",
            "/srv/a.qcow2",
            "ftp://a/b",
            "http://",
            "http:///b",
            "https://?b",
            "file://a/b",
            "file:///",
            "http://a/b c",
            "http://ä/",
            &long,
        ] {
            assert!(url_problem(bad).is_some(), "{bad}");
        }
    }
}
