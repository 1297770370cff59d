//! A PostgreSQL server for one test.
//!
//! A server starts in a twentieth of a second on a data directory that is there. So each test has
//! its own: no test sees another one's, none has to clean up, and there is nothing to start before
//! the tests or to end after them. The data directory is a copy of one that is made once on a
//! machine, in its directory for temporary files.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cairn_store::PostgresConfig;
use tempfile::TempDir;

use crate::wait_for;

/// Debian keeps the server's programs out of the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A server that has not started by then does not.
const LIMIT: Duration = Duration::from_secs(30);

/// What makes it quick, and small: nothing of it is to outlive the machine.
const QUICK: &[&str] = &["fsync=off", "full_page_writes=off"];
const SMALL: &[&str] = &[
    "autovacuum=off",
    "max_connections=40",
    "max_wal_senders=0",
    "shared_buffers=16MB",
    "wal_level=minimal",
];

/// A server with one database, which is reached over its socket; both go when this is dropped.
#[derive(Debug)]
pub struct PostgresServer {
    user: User,
    programs: PathBuf,
    settings: Vec<String>,
    server: Option<Child>,
    directory: TempDir,
}

impl PostgresServer {
    /// Starts a server that does not wait for the disk.
    ///
    /// # Panics
    /// If it cannot be started, with what is missing.
    pub async fn start() -> Self {
        Self::with(QUICK).await
    }

    /// Starts a server that keeps what it says, as a real one does.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub async fn start_durable() -> Self {
        Self::with(&["autovacuum=on", "shared_buffers=128MB"]).await
    }

    /// Starts a server with more settings, as `postgres -c` takes them.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub async fn with(settings: &[&str]) -> Self {
        let mut server = Self::prepare(settings);
        server.start_again().await;
        server
    }

    /// Starts a server that also listens on a port of the loopback address, for TLS with this
    /// certificate and key, and asks there for the password `secret`. Returns the port too.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub async fn start_tls(certificate: &str, key: &str) -> (Self, u16) {
        let mut server = Self::prepare(QUICK);
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        for (name, text) in [
            ("server.crt", certificate),
            ("server.key", key),
            (
                "hba.conf",
                "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
            ),
        ] {
            let file = server.directory().join(name);
            fs::write(&file, text).expect("a file for the server");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a private file");
            server.user.give(&file);
        }
        let directory = server.directory().display().to_string();
        server.settings.extend([
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={directory}/server.crt"),
            format!("ssl_key_file={directory}/server.key"),
            format!("hba_file={directory}/hba.conf"),
        ]);
        server.start_again().await;
        server.psql(
            &["--port", &port.to_string()],
            &["ALTER ROLE cairn PASSWORD 'secret'"],
        );
        (server, port)
    }

    fn prepare(settings: &[&str]) -> Self {
        let (programs, user) = (programs(), User::new());
        let template = template(&programs, &user);
        let directory = tempfile::tempdir().expect("a temporary directory");
        user.give(directory.path());
        let mut copy = user.command("cp");
        copy.args(["-r", "--reflink=auto"]);
        finish(copy.arg(&template).arg(directory.path().join("data")));
        let settings = SMALL.iter().chain(settings);
        Self {
            user,
            programs,
            settings: settings.map(|setting| (*setting).to_owned()).collect(),
            server: None,
            directory,
        }
    }

    /// The directory of its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The URL of its database.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://cairn@/postgres?host={}",
            self.directory().display()
        )
    }

    /// Its database.
    ///
    /// # Panics
    /// Never: the URL is right.
    #[must_use]
    pub fn config(&self) -> PostgresConfig {
        PostgresConfig::parse(&self.url()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs statements, each in a transaction of its own, as whoever else uses the server.
    ///
    /// # Panics
    /// If one fails.
    pub fn sql(&self, statements: &[&str]) {
        self.psql(&[], statements);
    }

    fn psql(&self, options: &[&str], statements: &[&str]) {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--user=cairn",
        ]);
        psql.arg("--host").arg(self.directory()).arg("postgres");
        psql.args(options).current_dir("/");
        for statement in statements {
            psql.args(["--command", statement]);
        }
        finish(&mut psql);
    }

    /// Ends it at once, as a machine that loses its power; what it said it keeps is kept.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let mut kill = Command::new("kill");
        finish(kill.args(["-QUIT", &server.id().to_string()]));
        server.wait().expect("the server's end");
    }

    /// Starts it again.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_again(&mut self) {
        let data = self.directory().join("data");
        let log = fs::File::create(self.directory().join("log")).expect("a log");
        let mut command = self.user.command(self.programs.join("postgres"));
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses="]);
        let mut socket = OsString::from("unix_socket_directories=");
        socket.push(self.directory());
        command.arg("-c").arg(socket);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.stdout(Stdio::null()).stderr(log);
        let server = command
            .spawn()
            .unwrap_or_else(|error| panic!("start postgres: {error}"));
        let server = self.server.insert(server);
        let (pid, log) = (
            data.join("postmaster.pid"),
            self.directory.path().join("log"),
        );
        let ready = async || {
            if server.try_wait().expect("the server's state").is_some() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("postgres does not start: {log}");
            }
            let pid = fs::read_to_string(&pid).unwrap_or_default();
            pid.contains("ready").then_some(())
        };
        wait_for("postgres accepts connections", ready, LIMIT).await;
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let id = server.id().to_string();
            let asked = Command::new("kill").args(["-QUIT", &id]).status();
            if !asked.is_ok_and(|status| status.success()) {
                let _ = server.kill();
            }
            let _ = server.wait();
        }
    }
}

/// Who runs the server: it refuses root.
#[derive(Debug)]
enum User {
    Myself,
    Other {
        name: &'static str,
        uid: u32,
        gid: u32,
    },
}

impl User {
    fn new() -> Self {
        let probe = tempfile::tempdir().expect("a temporary directory");
        let me = fs::metadata(probe.path()).expect("its owner").uid();
        if me != 0 {
            return Self::Myself;
        }
        let users = fs::read_to_string("/etc/passwd").expect("the users");
        for name in ["postgres", "nobody"] {
            let line = users
                .lines()
                .find(|line| line.split(':').next() == Some(name));
            let mut numbers = line.into_iter().flat_map(|line| line.split(':').skip(2));
            let mut number = || numbers.next().and_then(|number| number.parse().ok());
            if let (Some(uid), Some(gid)) = (number(), number()) {
                return Self::Other { name, uid, gid };
            }
        }
        panic!("PostgreSQL refuses to run as root, and there is no user postgres or nobody");
    }

    /// A program that ends with the thread that starts it.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        if let Self::Other { name, gid, .. } = self {
            command.args([
                "--reuid",
                name,
                "--regid",
                &gid.to_string(),
                "--clear-groups",
            ]);
        }
        command.args(["--pdeathsig", "INT"]).arg(program);
        // It may not enter ours.
        command.current_dir("/").env_remove("PGDATA");
        command
    }

    fn give(&self, path: &Path) {
        if let Self::Other { uid, gid, .. } = self {
            chown(path, Some(*uid), Some(*gid)).expect("a directory for the server");
        }
    }
}

/// A directory with the server's programs.
fn programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut debian: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    folders.extend(debian);
    let found = folders.into_iter().find_map(|folder| {
        // A link from the path is followed: initdb looks for the server beside itself.
        let server = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = server.parent()?.to_owned();
        folder.join("initdb").is_file().then_some(folder)
    });
    found.unwrap_or_else(|| {
        panic!(
            "there is no PostgreSQL server: install the package postgresql, or put `postgres` and \
             `initdb` on the PATH"
        )
    })
}

/// A data directory to copy, made by the first who needs it.
#[expect(
    clippy::disallowed_methods,
    reason = "tests share it, and the server's user cannot enter every home"
)]
fn template(programs: &Path, user: &User) -> PathBuf {
    let version = Command::new(programs.join("postgres"))
        .arg("--version")
        .output();
    let version = version.expect("the server's version").stdout;
    let version = String::from_utf8_lossy(&version);
    let version = version.split_whitespace().nth(2).unwrap_or("unknown");
    let owner = match user {
        User::Myself => env::var("USER").unwrap_or_default(),
        User::Other { name, .. } => (*name).to_owned(),
    };
    let template = env::temp_dir().join(format!("cairn-test-postgres-{version}-{owner}"));
    if template.exists() {
        return template;
    }
    let made = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).expect("a directory");
    user.give(made.path());
    let data = made.path().join("data");
    let mut initdb = user.command(programs.join("initdb"));
    initdb.args(["--locale=C", "--encoding=UTF8", "--auth=trust", "--no-sync"]);
    finish(initdb.args(["--username=cairn", "-D"]).arg(&data));
    // Whoever comes first; the others' are as good.
    if fs::rename(&data, &template).is_err() {
        assert!(template.exists(), "no {}", template.display());
    }
    template
}

fn finish(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
