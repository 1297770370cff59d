//! The SFTP server with the images: OpenSSH's, with a configuration, a key and a port of its own. It
//! lets in who has the cloud's key, to files only.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{command::hear, error::XtaskError};

use super::{
    cloud::{Cloud, write},
    daemon::{Daemon, listens},
    programs::system,
    steps::Done,
};

/// Debian has it where not everybody's path leads.
const PROGRAM: &str = "/usr/sbin/sshd";
/// The folder of the images, below what its user sees.
const FOLDER: &str = "cairn";

/// Has the server run.
pub(crate) fn server(cloud: &Cloud) -> Result<Done, XtaskError> {
    let own = cloud.sshd();
    // Where it wants to be without rights; a service manager would have made it.
    for folder in [&own, &cloud.sftp().join(FOLDER), Path::new("/run/sshd")] {
        fs::create_dir_all(folder).map_err(XtaskError::file(folder))?;
    }
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(cloud.sftp(), mode).map_err(XtaskError::file(cloud.sftp()))?;
    let host_key = own.join("host_key");
    if !host_key.exists() {
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
        hear(system("ssh-keygen", &words).arg(&host_key))?;
    }
    let public = cloud.node().join("ssh.pub");
    let key = fs::read_to_string(&public).map_err(XtaskError::file(&public))?;
    let authorized = own.join("authorized_keys");
    write(&authorized, &format!("restrict {key}"))?;
    let confined = match may_be_root(&cloud.sftp()) {
        true => format!(
            "ChrootDirectory {}\nForceCommand internal-sftp\n",
            cloud.sftp().display()
        ),
        false => format!("ForceCommand internal-sftp -d {}\n", cloud.sftp().display()),
    };
    let daemon = Daemon {
        program: PathBuf::from(PROGRAM),
        words: &["-D", "-e", "-f"],
        place: own,
        config: format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             AllowUsers root\nPermitRootLogin prohibit-password\nAuthenticationMethods publickey\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             StrictModes no\nDisableForwarding yes\nPermitTTY no\nSubsystem sftp internal-sftp\n\
             {confined}",
            cloud.sftp_port(),
            host_key.display(),
            authorized.display(),
        ),
        mount: None,
    };
    daemon.ensure(|| listens(&cloud.sshd(), cloud.sftp_port()))
}

/// The server's public key, and the images' folder as its user sees it.
pub(crate) fn seen(cloud: &Cloud) -> (PathBuf, String) {
    let below = match may_be_root(&cloud.sftp()) {
        true => PathBuf::from("/"),
        false => cloud.sftp(),
    };
    let key = cloud.sshd().join("host_key.pub");
    (key, below.join(FOLDER).display().to_string())
}

/// Whether sshd takes a folder as the root of its user: it and those above it must be root's, and
/// nobody else's to change.
fn may_be_root(folder: &Path) -> bool {
    folder.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_change_is_no_root() {
        assert!(may_be_root(Path::new("/usr/lib")));
        assert!(!may_be_root(Path::new("/tmp")));
        assert!(!may_be_root(Path::new("/tmp/nothing")));
    }
}
