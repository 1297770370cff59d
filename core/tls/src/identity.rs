//! Who a certificate speaks for: a node or a host, as a DNS name in it.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use cairn_types::{HostUuid, Uuid};

const NODE_SUFFIX: &str = ".node.cairn.internal";
const HOST_SUFFIX: &str = ".host.cairn.internal";

/// A member of the cloud that has a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A node of the control plane.
    Node(Uuid),
    /// A host's agent.
    Host(HostUuid),
}

impl Identity {
    /// The DNS name in its certificate, by which TLS checks it.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match self {
            Self::Node(uuid) => format!("{uuid}{NODE_SUFFIX}"),
            Self::Host(uuid) => format!("{uuid}{HOST_SUFFIX}"),
        }
    }

    /// The identity with that DNS name; `None` if it is no such name.
    #[must_use]
    pub fn from_dns_name(name: &str) -> Option<Self> {
        if let Some(uuid) = name.strip_suffix(NODE_SUFFIX) {
            uuid.parse().ok().map(|HostUuid(uuid)| Self::Node(uuid))
        } else {
            name.strip_suffix(HOST_SUFFIX)?.parse().ok().map(Self::Host)
        }
    }

    /// Whom a certificate speaks for. The certificate must have been verified against the CA
    /// already; one with no identity, or with several, speaks for nobody.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let mut found = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Self::from_dns_name(name),
                _ => None,
            });
        let identity = found.next()?;
        found.next().is_none().then_some(identity)
    }
}

/// The SHA-256 of a certificate in lower-case hexadecimal.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_identity_or_nothing() {
        let uuid: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        for identity in [Identity::Node(uuid), Identity::Host(HostUuid(uuid))] {
            assert_eq!(
                Identity::from_dns_name(&identity.dns_name()),
                Some(identity)
            );
        }
        for name in [
            "",
            "node.cairn.internal",
            "x.node.cairn.internal",
            "01890A5D-AC96-774B-BCCE-B302099A8057.node.cairn.internal",
            "a.01890a5d-ac96-774b-bcce-b302099a8057.host.cairn.internal",
            "01890a5d-ac96-774b-bcce-b302099a8057.host.cairn.internal.example.org",
        ] {
            assert_eq!(Identity::from_dns_name(name), None, "{name}");
        }
    }
}
