//! The key that a server is known by.

use std::{fmt, str::FromStr};

use russh::keys::{Algorithm, HashAlg, PublicKey, ssh_key::Fingerprint};

/// A server's public key, or its SHA-256 fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Whole(PublicKey),
    Fingerprint(Fingerprint),
}

/// A text that is no host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no host key; give the line of the server's /etc/ssh/ssh_host_ed25519_key.pub, or what \
     `ssh-keygen -lf` shows of it, as in SHA256:…"
)]
pub struct InvalidHostKey;

impl HostKey {
    pub(crate) fn of(shown: &PublicKey) -> Self {
        let mut key = shown.clone();
        key.set_comment("");
        Self(Form::Whole(key))
    }

    /// Whether a server that shows `shown` is the one.
    pub(crate) fn is(&self, shown: &PublicKey) -> bool {
        match &self.0 {
            Form::Whole(key) => key.key_data() == shown.key_data(),
            Form::Fingerprint(fingerprint) => shown.fingerprint(HashAlg::Sha256) == *fingerprint,
        }
    }

    /// The kind of key to ask the server for: it may have several.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        match &self.0 {
            Form::Whole(key) => Some(key.algorithm()),
            Form::Fingerprint(_) => None,
        }
    }
}

impl FromStr for HostKey {
    type Err = InvalidHostKey;

    fn from_str(text: &str) -> Result<Self, InvalidHostKey> {
        let text = text.trim();
        if text.starts_with("SHA256:") {
            let fingerprint = text.parse().map_err(|_| InvalidHostKey)?;
            return Ok(Self(Form::Fingerprint(fingerprint)));
        }
        let mut key = PublicKey::from_openssh(text).map_err(|_| InvalidHostKey)?;
        key.set_comment("");
        Ok(Self(Form::Whole(key)))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Whole(key) => f.write_str(&key.to_openssh().map_err(|_| fmt::Error)?),
            Form::Fingerprint(fingerprint) => fingerprint.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_key_and_its_fingerprint_name_the_same_server() {
        let with_comment = format!("{LINE} root@images\n");
        let key: HostKey = with_comment.parse().unwrap();
        assert_eq!(key.to_string(), LINE);
        let shown = PublicKey::from_openssh(&with_comment).unwrap();
        let fingerprint = shown.fingerprint(HashAlg::Sha256).to_string();
        let short: HostKey = fingerprint.parse().unwrap();
        assert_eq!(short.to_string(), fingerprint);
        assert!(key.is(&shown) && short.is(&shown));
        let other = crate::SshKey::generate().unwrap();
        let other = PublicKey::from_openssh(other.public()).unwrap();
        assert!(!key.is(&other) && !short.is(&other));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in [
            "",
            "ssh-ed25519",
            "SHA256:",
            "SHA256:abc",
            "MD5:00",
            "ssh-ed25519 AAAA",
        ] {
            assert_eq!(bad.parse::<HostKey>(), Err(InvalidHostKey), "{bad}");
        }
    }
}
