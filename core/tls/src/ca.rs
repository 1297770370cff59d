//! The cloud's own certificate authority: one key in one folder.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Identity, Issued, TlsError, file::create_private_file, fingerprint};
use cairn_types::{HostUuid, Uuid};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());
const LEAF_VALIDITY: Duration = Duration::from_secs(365 * DAY.as_secs());
/// A member whose clock is behind ours by less than this takes a new certificate at once.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A host's certificate.
#[derive(Debug, Clone)]
pub struct SignedHost {
    /// The certificate.
    pub certificate_pem: String,
    /// By which the host is admitted: see [`fingerprint`].
    pub fingerprint: String,
}

impl Ca {
    /// The CA kept in a folder (`ca.key`, `ca.pem`); made if there is none. Blocks.
    ///
    /// # Errors
    /// If the files cannot be read or written, or do not belong together.
    pub fn load_or_create(folder: &Path) -> Result<Self, TlsError> {
        let (key_path, pem_path) = (folder.join("ca.key"), folder.join("ca.pem"));
        let key_pem = match read(&key_path)? {
            Some(pem) => pem,
            None if read(&pem_path)?.is_some() => {
                return Err(TlsError::KeyMissing { path: key_path });
            }
            None => {
                let key = KeyPair::generate().map_err(certificate("make the CA's key"))?;
                create(&key_path, &key.serialize_pem())?
            }
        };
        let key = KeyPair::from_pem(&key_pem).map_err(certificate("read the CA's key"))?;
        // A crash between the two files leaves a key alone: its certificate is made then.
        let pem = match read(&pem_path)? {
            Some(pem) => pem,
            None => create(&pem_path, &self_signed(&key)?)?,
        };
        if !belongs(&pem, &key)? {
            return Err(TlsError::KeyMismatch { path: pem_path });
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(certificate("read the CA's certificate"))?;
        Ok(Self { issuer, pem })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new key and certificate for a member, good as a server and as a client. Additional
    /// names (DNS names or IP addresses) are those under which its listeners are reached.
    ///
    /// # Errors
    /// If an additional name is malformed or would pass for another identity.
    pub fn issue(&self, identity: &Identity, extra_sans: &[String]) -> Result<Issued, TlsError> {
        if let Some(name) = extra_sans
            .iter()
            .find(|name| Identity::from_dns_name(name).is_some())
        {
            return Err(TlsError::ReservedName(name.clone()));
        }
        let key = KeyPair::generate().map_err(certificate("make a key"))?;
        let signed = self.sign(identity, extra_sans, &key)?;
        Ok(Issued {
            certificate_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate for the key of a host's signing request. Nothing else is taken from the
    /// request: the names and uses are ours.
    ///
    /// # Errors
    /// If the request is malformed, not signed by its own key, or its key is not P-256.
    pub fn sign_host(&self, request_pem: &str, host: HostUuid) -> Result<SignedHost, TlsError> {
        let refused = |reason: String| TlsError::Request { host, reason };
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|cause| refused(cause.to_string()))?;
        if PublicKeyData::algorithm(&request.public_key) != &PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key is not ECDSA P-256".to_owned()));
        }
        let signed = self.sign(&Identity::Host(host), &[], &request.public_key)?;
        Ok(SignedHost {
            certificate_pem: signed.pem(),
            fingerprint: fingerprint(signed.der()),
        })
    }

    fn sign(
        &self,
        identity: &Identity,
        extra_sans: &[String],
        key: &impl PublicKeyData,
    ) -> Result<Certificate, TlsError> {
        let name = identity.dns_name();
        let mut names = vec![name.clone()];
        names.extend_from_slice(extra_sans);
        let mut params = CertificateParams::new(names).map_err(certificate("read the names"))?;
        params.distinguished_name = distinguished(&name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        stamp(&mut params, LEAF_VALIDITY);
        params
            .signed_by(key, &self.issuer)
            .map_err(certificate("sign a certificate"))
    }
}

fn self_signed(key: &KeyPair) -> Result<String, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished("Cairn CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    stamp(&mut params, CA_VALIDITY);
    Ok(params
        .self_signed(key)
        .map_err(certificate("sign the CA's certificate"))?
        .pem())
}

fn stamp(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + now;
    params.not_before = now - BACKDATED;
    params.not_after = now + validity;
    // Random: two certificates of one key are told apart.
    params.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
}

fn distinguished(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn belongs(pem: &str, key: &KeyPair) -> Result<bool, TlsError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|cause| TlsError::Pem {
        what: "the CA's certificate",
        cause,
    })?;
    Ok(
        X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
            *certificate.public_key().subject_public_key.data == *key.public_key_raw()
        }),
    )
}

fn certificate(action: &'static str) -> impl Fn(rcgen::Error) -> TlsError {
    move |cause| TlsError::Certificate { action, cause }
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(TlsError::File {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// The file's content: this one, unless another process was faster.
fn create(path: &Path, contents: &str) -> Result<String, TlsError> {
    create_private_file(path, contents.as_bytes())
        .and_then(|()| fs::read_to_string(path))
        .map_err(|cause| TlsError::File {
            path: path.to_owned(),
            cause,
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::generate_key_and_request;

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_ca_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ca::load_or_create(folder.path()).unwrap();
        let again = Ca::load_or_create(folder.path()).unwrap();
        assert_eq!(first.pem(), again.pem());
        let mode = fs::metadata(folder.path().join("ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing temporary is left"
        );
    }

    #[test]
    fn a_crash_between_the_files_is_repaired_and_a_lost_key_is_not() {
        let folder = tempfile::tempdir().unwrap();
        Ca::load_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join("ca.pem")).unwrap();
        Ca::load_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        assert!(matches!(
            Ca::load_or_create(folder.path()),
            Err(TlsError::KeyMissing { .. })
        ));
    }

    #[test]
    fn a_foreign_certificate_is_not_taken_for_the_cas() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Ca::load_or_create(folder.path()).unwrap();
        Ca::load_or_create(other.path()).unwrap();
        fs::copy(other.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
        assert!(matches!(
            Ca::load_or_create(folder.path()),
            Err(TlsError::KeyMismatch { .. })
        ));
    }

    #[test]
    fn a_host_gets_its_own_name_whatever_it_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path()).unwrap();
        let (host, other) = (HostUuid::generate(), HostUuid::generate());
        let asked = generate_key_and_request(other).unwrap();
        let signed = ca.sign_host(&asked.request_pem, host).unwrap();
        let certificate = der(&signed.certificate_pem);
        assert_eq!(
            Identity::of_certificate(&certificate),
            Some(Identity::Host(host))
        );
        assert_eq!(signed.fingerprint, fingerprint(&certificate));
        assert_eq!(signed.fingerprint.len(), 64);
    }

    #[test]
    fn a_bad_request_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path()).unwrap();
        let host = HostUuid::generate();
        let asked = generate_key_and_request(host).unwrap();
        let mut lines: Vec<_> = asked.request_pem.lines().map(str::to_owned).collect();
        // The signature is at the end of the request.
        let last = lines.len() - 2;
        let swapped: String = lines[last].chars().rev().collect();
        lines[last] = swapped;
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let p384 = CertificateParams::default()
            .serialize_request(&p384)
            .unwrap()
            .pem()
            .unwrap();
        for request in ["".to_owned(), ca.pem().to_owned(), lines.join("\n"), p384] {
            assert!(matches!(
                ca.sign_host(&request, host),
                Err(TlsError::Request { .. })
            ));
        }
    }

    #[test]
    fn an_additional_name_cannot_be_an_identity() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path()).unwrap();
        let node = Identity::Node(Uuid::new_v4());
        let extra = ["127.0.0.1".to_owned(), "cloud.example.org".to_owned()];
        let issued = ca.issue(&node, &extra).unwrap();
        assert_eq!(
            Identity::of_certificate(&der(&issued.certificate_pem)),
            Some(node)
        );
        let stolen = [Identity::Host(HostUuid::generate()).dns_name()];
        assert!(matches!(
            ca.issue(&node, &stolen),
            Err(TlsError::ReservedName(_))
        ));
    }
}
