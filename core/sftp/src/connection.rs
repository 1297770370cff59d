//! A connection to a server: opened for one piece of work, with the server's key checked and the
//! cloud's key shown.

mod folder;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use russh::{
    client,
    keys::{PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate},
};
use russh_sftp::{
    client::{Config, SftpSession, error::Error},
    protocol::{FileAttributes, OpenFlags, StatusCode},
};
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::{HostKey, Reader, SftpError, SshKey, Writer};

pub use folder::Entry;

/// From the first packet to an open session.
const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// One request of an open session: a server's disk may be slow.
const REQUEST_SECS: u64 = 60;
/// A server that keeps silent this long is asked whether it is there, so many times.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVES: usize = 3;

/// Which server, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`
    pub address: String,
    /// The user there.
    pub username: String,
    /// The key that the server is known by; without one, any is taken.
    pub host_key: Option<HostKey>,
}

/// What the file system of a folder has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub total: u64,
    /// What of it the user may still fill.
    pub available: u64,
}

/// An open session. It ends when it is dropped.
pub struct Connection {
    pub(crate) address: String,
    username: String,
    host_key: HostKey,
    session: SftpSession,
    /// Closed once the connection has ended.
    ended: watch::Receiver<()>,
    _handle: client::Handle<Door>,
}

impl Connection {
    /// Connects, checks the server's key, authenticates, and opens an SFTP session.
    ///
    /// # Errors
    /// Which of these failed, and what its operator should do.
    pub async fn open(endpoint: &Endpoint, key: &SshKey) -> Result<Self, SftpError> {
        let opened = timeout(OPEN_LIMIT, Self::begin(endpoint, key)).await;
        opened.unwrap_or_else(|_| {
            Err(SftpError::TimedOut {
                address: endpoint.address.clone(),
                what: "open a session",
                secs: OPEN_LIMIT.as_secs(),
            })
        })
    }

    async fn begin(endpoint: &Endpoint, key: &SshKey) -> Result<Self, SftpError> {
        let (address, username) = (endpoint.address.clone(), endpoint.username.clone());
        let stream = TcpStream::connect(&address).await;
        let stream = stream.map_err(|cause| SftpError::Unreachable {
            address: address.clone(),
            cause,
        })?;
        let protocol = |cause| SftpError::Protocol {
            address: address.clone(),
            cause,
        };
        let shown = Arc::new(OnceLock::new());
        let (open, ended) = watch::channel(());
        let door = Door {
            known: endpoint.host_key.clone(),
            shown: Arc::clone(&shown),
            _open: open,
        };
        let connected = client::connect_stream(config(endpoint), stream, door).await;
        let host_key = shown.get().map(HostKey::of);
        if let (Some(known), Some(key)) = (&endpoint.host_key, shown.get())
            && !known.is(key)
        {
            return Err(SftpError::HostKey {
                address,
                known: known.to_string(),
                shown: HostKey::of(key).to_string(),
            });
        }
        let mut handle = connected.map_err(protocol)?;
        let host_key = host_key
            .ok_or(russh::Error::Inconsistent)
            .map_err(protocol)?;
        let private = PrivateKeyWithHashAlg::new(Arc::clone(&key.private), None);
        let answer = handle.authenticate_publickey(&username, private).await;
        // A server that has heard too many wrong keys closes in place of an answer.
        if !answer.is_ok_and(|answer| answer.success()) {
            return Err(SftpError::Refused {
                address,
                username,
                public_key: key.public().to_owned(),
            });
        }
        let channel = handle.channel_open_session().await.map_err(protocol)?;
        let no_sftp = || SftpError::NoSftp {
            address: address.clone(),
            username: username.clone(),
        };
        let asked = channel.request_subsystem(true, "sftp").await;
        asked.map_err(|_| no_sftp())?;
        let limits = Config {
            request_timeout_secs: REQUEST_SECS,
            ..Config::default()
        };
        let session = SftpSession::new_with_config(channel.into_stream(), limits).await;
        Ok(Self {
            session: session.map_err(|_| no_sftp())?,
            address,
            username,
            host_key,
            ended,
            _handle: handle,
        })
    }

    /// The key that the server showed, whole.
    #[must_use]
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// What the file system of a folder has; none if the server does not say.
    ///
    /// # Errors
    /// As the server says.
    pub async fn space(&self, path: &str) -> Result<Option<Space>, SftpError> {
        let found = self.ask(self.session.fs_info(path)).await;
        let found = found.map_err(|error| self.failed("ask for the space of", path, &error))?;
        Ok(found.map(|found| Space {
            total: found.blocks.saturating_mul(found.fragment_size),
            available: found.blocks_avail.saturating_mul(found.fragment_size),
        }))
    }

    /// The size of a file; none if it is not there.
    ///
    /// # Errors
    /// As the server says.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, SftpError> {
        let found = self.attributes(path).await?;
        Ok(found.map(|found| found.size.unwrap_or_default()))
    }

    /// Removes a file; none there is a success.
    ///
    /// # Errors
    /// As the server says.
    pub async fn remove(&self, path: &str) -> Result<(), SftpError> {
        match self.ask(self.session.remove_file(path)).await {
            Err(error) if !is(&error, StatusCode::NoSuchFile) => {
                Err(self.failed("remove", path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Gives a file its name, in place of one that has it. A rename of SFTP itself does not
    /// replace, so for a moment there is neither.
    ///
    /// # Errors
    /// As the server says.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.remove(to).await?;
        let renamed = self.ask(self.session.rename(from, to)).await;
        renamed.map_err(|error| self.failed("rename", from, &error))
    }

    /// Cuts a file to a size.
    ///
    /// # Errors
    /// As the server says.
    pub async fn truncate(&self, path: &str, size: u64) -> Result<(), SftpError> {
        let attributes = FileAttributes {
            size: Some(size),
            ..FileAttributes::empty()
        };
        let cut = self.ask(self.session.set_metadata(path, attributes)).await;
        cut.map_err(|error| self.failed("truncate", path, &error))
    }

    /// Writes a file from its start: what it had is gone.
    ///
    /// # Errors
    /// As the server says.
    pub async fn create(&self, path: &str) -> Result<Writer<'_>, SftpError> {
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE;
        let file = self.open_file("make", path, flags).await?;
        Ok(Writer::new(self, path, file))
    }

    /// Writes a file from an offset on; it is made if it is missing.
    ///
    /// # Errors
    /// As the server says.
    pub async fn append(&self, path: &str, offset: u64) -> Result<Writer<'_>, SftpError> {
        let flags = OpenFlags::CREATE | OpenFlags::WRITE;
        let file = self.open_file("write", path, flags).await?;
        Writer::new(self, path, file).at(offset).await
    }

    /// Reads a file from its start.
    ///
    /// # Errors
    /// As the server says.
    pub async fn read(&self, path: &str) -> Result<Reader<'_>, SftpError> {
        let file = self.open_file("read", path, OpenFlags::READ).await?;
        Ok(Reader::new(self, path, file))
    }

    async fn open_file(
        &self,
        what: &'static str,
        path: &str,
        flags: OpenFlags,
    ) -> Result<russh_sftp::client::fs::File, SftpError> {
        let opened = self.ask(self.session.open_with_flags(path, flags)).await;
        opened.map_err(|error| self.failed(what, path, &error))
    }

    async fn attributes(&self, path: &str) -> Result<Option<FileAttributes>, SftpError> {
        match self.ask(self.session.metadata(path)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is(&error, StatusCode::NoSuchFile) => Ok(None),
            Err(error) => Err(self.failed("look at", path, &error)),
        }
    }

    fn not_found(&self, path: &str) -> SftpError {
        SftpError::NotFound {
            address: self.address.clone(),
            path: path.to_owned(),
        }
    }

    /// The answer, or that the connection ended before it: a request that is sent just then would
    /// wait for its time limit.
    pub(crate) async fn answered<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
        ended: impl FnOnce() -> E,
    ) -> Result<T, E> {
        let mut end = self.ended.clone();
        tokio::select! {
            biased;
            answer = request => answer,
            _ = end.changed() => Err(ended()),
        }
    }

    async fn ask<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let ended = || Error::UnexpectedBehavior("it ended before the answer".to_owned());
        self.answered(request, ended).await
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    fn failed(&self, what: &'static str, path: &str, error: &Error) -> SftpError {
        let (address, path) = (self.address.clone(), path.to_owned());
        match error {
            Error::Timeout => SftpError::TimedOut {
                address,
                what: "answer a request",
                secs: REQUEST_SECS,
            },
            Error::Status(status) => match status.status_code {
                StatusCode::NoSuchFile => self.not_found(&path),
                StatusCode::PermissionDenied => SftpError::Permission {
                    address,
                    username: self.username.clone(),
                    what,
                    path,
                },
                _ => SftpError::Failed {
                    address,
                    what,
                    path,
                    words: status.error_message.clone(),
                },
            },
            error if self.is_lost() || matches!(error, Error::UnexpectedBehavior(_)) => {
                SftpError::Lost {
                    address,
                    words: error.to_string(),
                }
            }
            error => SftpError::Failed {
                address,
                what,
                path,
                words: error.to_string(),
            },
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What is wrong with an address, and what would be right.
#[must_use]
pub fn address_problem(address: &str) -> Option<String> {
    let example = "give host:port, as in images.example:22";
    if address.is_empty() {
        return Some(format!("is missing; {example}"));
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let fine = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !host.is_empty() && host.len() <= 253 && host.bytes().all(letter)
        }
    };
    let fine = fine && port.parse::<u16>().is_ok_and(|port| port > 0);
    (!fine).then(|| format!("is `{address}`; {example}, or [address]:port for IPv6"))
}

fn is(error: &Error, code: StatusCode) -> bool {
    matches!(error, Error::Status(status) if status.status_code == code)
}

fn config(endpoint: &Endpoint) -> Arc<client::Config> {
    let mut config = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        ..client::Config::default()
    };
    // A server has several keys: the one that it is known by is asked for.
    if let Some(known) = endpoint.host_key.as_ref().and_then(HostKey::algorithm) {
        let others = config.preferred.key.iter().filter(|other| **other != known);
        let keys = std::iter::once(&known).chain(others).cloned();
        config.preferred.key = keys.collect::<Vec<_>>().into();
    }
    Arc::new(config)
}

/// What the protocol asks of its user: whether the server is the right one.
struct Door {
    known: Option<HostKey>,
    shown: Arc<OnceLock<PublicKey>>,
    /// Goes with the connection.
    _open: watch::Sender<()>,
}

impl client::Handler for Door {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        // Certificates are not asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let right = self.known.as_ref().is_none_or(|known| known.is(key));
        Ok(self.shown.get_or_init(|| key.clone()) == key && right)
    }
}

#[cfg(test)]
mod tests {
    use super::address_problem;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in [
            "images.example:22",
            "10.0.0.1:2222",
            "[fe80::1]:22",
            "a:65535",
        ] {
            assert_eq!(address_problem(good), None, "{good}");
        }
        for bad in [
            "", "a", "a:", ":22", "a:0", "a:65536", "fe80::1", "u@a:22", "a b:22", "[a]:22",
        ] {
            assert!(address_problem(bad).is_some(), "{bad}");
        }
    }
}
