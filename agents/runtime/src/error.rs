//! What can go wrong with an agent's own state.

use std::{io, path::PathBuf};

use cairn_tls::TlsError;
use cairn_types::{Coded, ErrorCode, HostUuid};

/// Why an agent cannot serve a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A file could not be read or written.
    #[error("access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file of the state folder is not what the agent wrote.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host has no key here: its request was not made by this agent.
    #[error("host {0} has no key here; make its certificate signing request first")]
    NoKey(HostUuid),
    /// The certificate speaks for someone else.
    #[error("the certificate is not one of host {0}")]
    WrongHost(HostUuid),
    /// The certificate speaks for no host.
    #[error("the certificate is not one of a host")]
    NoHost,
    /// Another host of this process belongs to another cloud.
    #[error("host {0} belongs to another cloud than the hosts that this process serves already")]
    OtherCloud(HostUuid),
    /// The key or certificate is not usable.
    #[error("use the certificate of host {host}")]
    Certificate {
        /// The host.
        host: HostUuid,
        /// Why.
        #[source]
        cause: TlsError,
    },
    /// The client for reports could not be made.
    #[error("make the client for reports of host {host}")]
    Client {
        /// The host.
        host: HostUuid,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
}

impl Coded for RuntimeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoKey(_) | Self::WrongHost(_) | Self::NoHost | Self::OtherCloud(_) => {
                ErrorCode::InvalidArgument
            }
            _ => ErrorCode::Internal,
        }
    }
}
