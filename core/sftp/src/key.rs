//! The key pair that a cloud authenticates with: made once, kept in a file, shown to nobody.

use std::{fmt, fs, io, path::Path, sync::Arc};

use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};

use crate::SftpError;

/// What the public key says that it is for.
const COMMENT: &str = "cairn";

/// An SSH key pair (Ed25519). Its private part is in no message and no log.
#[derive(Clone)]
pub struct SshKey {
    pub(crate) private: Arc<PrivateKey>,
    public: String,
}

impl SshKey {
    /// The key in `ssh.key` of a folder, made if it is not there. Its public part is written
    /// beside it as `ssh.pub`, for people. Blocks.
    ///
    /// # Errors
    /// If a file cannot be read or written, or is no key.
    pub fn load_or_create(folder: &Path) -> Result<Self, SftpError> {
        let (path, public) = (folder.join("ssh.key"), folder.join("ssh.pub"));
        let key = match read(&path)? {
            Some(text) => Self::from_openssh(&text)?,
            None => {
                let made = Self::generate()?;
                write(&path, &made.secret()?)?;
                made
            }
        };
        let line = format!("{}\n", key.public);
        if read(&public)?.as_deref() != Some(&*line) {
            write(&public, &line)?;
        }
        Ok(key)
    }

    /// A new key.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self, SftpError> {
        let made = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519);
        let mut private = made.map_err(|_| SftpError::Key)?;
        private.set_comment(COMMENT);
        Self::of(private)
    }

    /// Reads a key from its OpenSSH form.
    ///
    /// # Errors
    /// If it is none, or is protected by a passphrase.
    pub fn from_openssh(text: &str) -> Result<Self, SftpError> {
        let private = PrivateKey::from_openssh(text).map_err(|_| SftpError::Key)?;
        if private.is_encrypted() {
            return Err(SftpError::Key);
        }
        Self::of(private)
    }

    /// The line for a server's `authorized_keys`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The private part in its OpenSSH form: for the file, and for the memory of an agent.
    ///
    /// # Errors
    /// None that is known.
    pub fn secret(&self) -> Result<String, SftpError> {
        let text = self.private.to_openssh(LineEnding::LF);
        Ok(text.map_err(|_| SftpError::Key)?.to_string())
    }

    fn of(private: PrivateKey) -> Result<Self, SftpError> {
        let public = private.public_key().to_openssh();
        Ok(Self {
            public: public.map_err(|_| SftpError::Key)?,
            private: Arc::new(private),
        })
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SshKey").field(&self.public).finish()
    }
}

fn read(path: &Path) -> Result<Option<String>, SftpError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(file(path)(cause)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), SftpError> {
    cairn_tls::write_private_file(path, text.as_bytes()).map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> SftpError {
    let path = path.to_owned();
    move |cause| SftpError::KeyFile { path, cause }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_public_part_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let first = SshKey::load_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join("ssh.pub")).unwrap();
        let again = SshKey::load_or_create(folder.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let public = fs::read_to_string(folder.path().join("ssh.pub")).unwrap();
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" cairn\n"));
        let mode = |name| {
            let metadata = fs::metadata(folder.path().join(name)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("ssh.key"), 0o600);
        let secret = first.secret().unwrap();
        let body = secret.lines().nth(2).unwrap();
        assert!(!format!("{first:?}").contains(body));
        let copy = SshKey::from_openssh(&secret).unwrap();
        assert_eq!(copy.public(), first.public());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ssh.key"), "nonsense").unwrap();
        let error = SshKey::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(error, SftpError::Key), "{error}");
        let kept = fs::read_to_string(folder.path().join("ssh.key")).unwrap();
        assert_eq!(kept, "nonsense");
    }
}
