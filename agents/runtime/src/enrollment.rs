//! A host's identity, prepared before its agent runs: what the programs of agents offer on their
//! command lines. All functions block.

use std::path::Path;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{RuntimeError, folder::Folder, host::Trust};
use cairn_agent_protocol::Enrollment;
use cairn_tls::Identity;
use cairn_types::HostUuid;

/// The certificate signing request of a host; its key is made in the state folder if there is
/// none, and stays there.
///
/// # Errors
/// If the state folder cannot be written.
pub fn request(dir: &Path, host: HostUuid) -> Result<String, RuntimeError> {
    Folder::new(dir, host).request()
}

/// Installs what a host's enrolment returned; tells which host it is of.
///
/// # Errors
/// If the certificate is not one for the key of a host in the state folder.
pub fn install(dir: &Path, enrollment: &Enrollment) -> Result<HostUuid, RuntimeError> {
    let certificate = CertificateDer::from_pem_slice(enrollment.certificate.as_bytes()).ok();
    let Some(Identity::Host(host)) = certificate.as_ref().and_then(Identity::of_certificate) else {
        return Err(RuntimeError::NoHost);
    };
    let folder = Folder::new(dir, host);
    Trust::new(host, folder.key()?, enrollment.clone())?;
    folder.write_enrollment(enrollment)?;
    Ok(host)
}
