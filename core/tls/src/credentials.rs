//! A key with its certificate and the CA that vouches for the others.

use rcgen::{CertificateParams, KeyPair};

use crate::{Identity, TlsError};
use cairn_types::HostUuid;

/// What one member needs to prove itself and to check others. The key is a secret.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// The cloud's CA.
    pub ca_pem: String,
}

/// A certificate with a key that was made for it.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Issued {
    /// With the CA, the whole credentials.
    #[must_use]
    pub fn with_ca(self, ca_pem: &str) -> Credentials {
        let Self {
            certificate_pem,
            key_pem,
        } = self;
        Credentials {
            certificate_pem,
            key_pem,
            ca_pem: ca_pem.to_owned(),
        }
    }
}

/// A host's new key and the request to have it certified. Only the request leaves the host.
#[derive(Clone)]
pub struct KeyAndRequest {
    /// The private key.
    pub key_pem: String,
    /// The certificate signing request.
    pub request_pem: String,
}

/// Makes a key for a host's agent and the request for its certificate.
///
/// # Errors
/// If the system gives no randomness.
pub fn generate_key_and_request(host: HostUuid) -> Result<KeyAndRequest, TlsError> {
    let failed = |cause| TlsError::Certificate {
        action: "make the host's key and request",
        cause,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let params = CertificateParams::new(vec![Identity::Host(host).dns_name()]).map_err(failed)?;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok(KeyAndRequest {
        key_pem: key.serialize_pem(),
        request_pem: request.pem().map_err(failed)?,
    })
}

macro_rules! hide_secrets {
    ($($name:ident)*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

hide_secrets!(Credentials Issued KeyAndRequest);
