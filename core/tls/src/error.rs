//! What can go wrong with keys, certificates and their files.

use std::{io, path::PathBuf};

use cairn_types::{Coded, ErrorCode};

/// Why a key, a certificate or a TLS configuration could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The CA's certificate is there, its key is not.
    #[error(
        "{path} is missing, though the CA's certificate is there; restore the key from a backup"
    )]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// The CA's certificate was made for another key.
    #[error("{path} is not the certificate of the key next to it")]
    KeyMismatch {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A key or certificate could not be made or read.
    #[error("{action}")]
    Certificate {
        /// What was being done.
        action: &'static str,
        /// What the certificate library said.
        #[source]
        cause: rcgen::Error,
    },
    /// A signing request is malformed, not signed by its own key, or of an algorithm we do not take.
    #[error("the certificate signing request of host {host} is not acceptable: {reason}")]
    Request {
        /// The host that asks.
        host: cairn_types::HostUuid,
        /// What is wrong with it.
        reason: String,
    },
    /// An additional name would pass for an identity of this cloud.
    #[error("`{0}` is a name of a node or host; it cannot be added to a certificate")]
    ReservedName(String),
    /// A PEM text holds no usable certificate or key.
    #[error("{what} is not usable PEM")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What the parser said.
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    /// rustls refused the certificates or the key.
    #[error("{action}")]
    Config {
        /// What was being done.
        action: &'static str,
        /// What rustls said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Coded for TlsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Request { .. } | Self::ReservedName(_) => ErrorCode::InvalidArgument,
            _ => ErrorCode::Internal,
        }
    }
}
