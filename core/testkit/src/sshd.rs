//! OpenSSH's own server, over a folder of its own: for tests that are about what a real server
//! does. It is started for each connection, as inetd would, so no port has to be found for it.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

/// What has it on Debian.
const PROGRAM: &str = "/usr/sbin/sshd";

/// A running server, which goes when this is dropped.
#[derive(Debug)]
pub struct Sshd {
    folder: TempDir,
    address: SocketAddr,
    host_key: String,
    username: String,
    running: JoinSet<()>,
}

impl Sshd {
    /// A server that lets nobody in yet.
    ///
    /// # Panics
    /// If it is not installed, or cannot listen.
    pub async fn start() -> Self {
        assert!(
            Path::new(PROGRAM).is_file(),
            "{PROGRAM} is needed; as root: apt-get install --no-install-recommends openssh-server"
        );
        // Where it wants to be without rights; a service manager would have made it.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).expect("a key");
        let text = key.to_openssh(LineEnding::LF).expect("a key's text");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("host_key"), text.as_bytes()).expect("a file");
        fs::set_permissions(at("host_key"), Permissions::from_mode(0o600)).expect("a mode");
        fs::write(at("authorized_keys"), "").expect("a file");
        fs::create_dir(at("files")).expect("a folder");
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nLogLevel ERROR\nSubsystem sftp internal-sftp\n\
             ForceCommand internal-sftp\nDisableForwarding yes\n",
            at("host_key").display(),
            at("authorized_keys").display(),
        );
        fs::write(at("sshd_config"), config).expect("a file");
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            host_key: key.public_key().to_openssh().expect("a key's text"),
            username: username().await,
            running: JoinSet::new(),
            folder,
        };
        server.resume().await;
        server
    }

    /// `127.0.0.1:port`
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its public key.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The user that it lets in: the one who runs the test.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// A folder for files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Lets in who has this key.
    ///
    /// # Panics
    /// If that cannot be written.
    pub fn authorize(&self, public_key: &str) {
        let path = self.folder.path().join("authorized_keys");
        fs::write(path, format!("{}\n", public_key.trim())).expect("a file");
    }

    /// Ends every connection, and listens no more.
    pub async fn pause(&mut self) {
        self.running.shutdown().await;
    }

    /// Listens again, at the same address.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("a listener");
        self.address = listener.local_addr().expect("an address");
        let config = self.folder.path().join("sshd_config");
        self.running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, config.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
    }
}

/// One connection; the server goes with it.
async fn serve(stream: TcpStream, config: PathBuf) {
    let stream = stream.into_std().expect("a stream");
    stream.set_nonblocking(false).expect("a stream");
    let input = OwnedFd::from(stream);
    let output = input.try_clone().expect("a stream");
    let mut command = Command::new(PROGRAM);
    command.args(["-i", "-e", "-f"]).arg(config);
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output));
    command.kill_on_drop(true);
    let mut server = command.spawn().expect("sshd");
    // The streams are the server's alone: when it ends, the connection does.
    drop(command);
    let _ = server.wait().await;
}

async fn username() -> String {
    let output = Command::new("id").arg("-un").output().await.expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
