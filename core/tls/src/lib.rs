//! Trust: the cloud's own CA, the identities in its certificates, and the one TLS listener
//! behind every door.
//!
//! Every name in a certificate is chosen here, never by the one who asks: a signing request
//! gives its public key and nothing else. All cryptography is ring's; no process-wide default
//! provider is needed.

mod ca;
mod config;
mod credentials;
mod error;
mod file;
mod identity;
mod serve;

pub use ca::{Ca, SignedHost};
pub use config::{certified_key, client, mutual_server, mutual_server_by_name, public_server};
pub use credentials::{Credentials, Issued, KeyAndRequest, generate_key_and_request};
pub use error::TlsError;
pub use file::write_private_file;
pub use identity::{Identity, fingerprint};
pub use serve::{BoxError, Limits, Peer, serve};
