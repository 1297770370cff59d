//! An SFTP server in this process, over a folder of its own: for tests that are about what is
//! stored, and not about the server.

mod files;

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, Disconnect,
    keys::{Algorithm, PrivateKey, PublicKey, key::safe_rng},
    server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use files::Files;

/// An SFTP server that goes when this is dropped.
#[derive(Debug)]
pub struct SftpServer {
    shared: Arc<Shared>,
    config: Arc<Config>,
    address: SocketAddr,
    host_key: String,
    running: JoinSet<()>,
    _folder: TempDir,
}

/// What its connections have in common.
#[derive(Debug)]
struct Shared {
    /// What is `/` to its users.
    root: PathBuf,
    authorized: Mutex<Vec<String>>,
    /// Bytes that may still be written, and what happens then.
    left: AtomicU64,
    /// Raised to end all connections.
    cut: watch::Sender<u64>,
    cut_when_full: Mutex<bool>,
    opened: AtomicU64,
}

impl SftpServer {
    /// A server that lets nobody in yet.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("a folder");
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).expect("a key");
        let host_key = key.public_key().to_openssh().expect("a key's text");
        let config = Arc::new(Config {
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![key],
            nodelay: true,
            ..Config::default()
        });
        let shared = Arc::new(Shared {
            root,
            authorized: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            cut: watch::Sender::new(0),
            cut_when_full: Mutex::new(false),
            opened: AtomicU64::new(0),
        });
        let mut server = Self {
            shared,
            config,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            host_key,
            running: JoinSet::new(),
            _folder: folder,
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

    /// The folder that is `/` to its users.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Lets in who has this key.
    pub fn authorize(&self, public_key: &str) {
        lock(&self.shared.authorized).push(first_words(public_key));
    }

    /// Makes a folder.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn make_folder(&self, path: &str) {
        fs::create_dir_all(self.shared.on_disk(path)).expect("a folder");
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let (mut folders, mut found) = (vec![self.shared.root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let below = path.strip_prefix(&self.shared.root);
                        found.extend(below.map(|path| format!("/{}", path.display())));
                    }
                }
            }
        }
        found.sort();
        found
    }

    /// A file's content.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn content(&self, path: &str) -> Vec<u8> {
        fs::read(self.shared.on_disk(path)).expect("a file")
    }

    /// Writes a file behind everybody's back.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.shared.on_disk(path), content).expect("a file");
    }

    /// Removes a file behind everybody's back.
    ///
    /// # Panics
    /// If it cannot.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.shared.on_disk(path)).expect("a file that goes");
    }

    /// Sets how many bytes may still be written: then the disk is full.
    pub fn full_after(&self, bytes: u64) {
        *lock(&self.shared.cut_when_full) = false;
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Sets how many bytes may still be written: then every connection is cut, once.
    pub fn cut_after(&self, bytes: u64) {
        *lock(&self.shared.cut_when_full) = true;
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Listens no more, and cuts every connection.
    pub async fn pause(&mut self) {
        self.running.shutdown().await;
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Listens again, at the same address.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("a listener");
        self.address = listener.local_addr().expect("an address");
        let (config, shared) = (Arc::clone(&self.config), Arc::clone(&self.shared));
        self.running.spawn(accept(listener, config, shared));
    }
}

async fn accept(listener: TcpListener, config: Arc<Config>, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (config, shared) = (Arc::clone(&config), Arc::clone(&shared));
        sessions.spawn(async move {
            shared.opened.fetch_add(1, Ordering::SeqCst);
            let mut cut = shared.cut.subscribe();
            let guest = Guest {
                shared,
                channels: HashMap::new(),
            };
            let Ok(session) = russh::server::run_stream(config, stream, guest).await else {
                return;
            };
            let handle = session.handle();
            tokio::select! {
                _ = session => {}
                _ = cut.changed() => {
                    let words = || "cut".to_owned();
                    let _ = handle.disconnect(Disconnect::ByApplication, words(), words()).await;
                }
            }
        });
        while sessions.try_join_next().is_some() {}
    }
}

/// A connection.
struct Guest {
    shared: Arc<Shared>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        let shown = PublicKey::to_openssh(key.public_key).unwrap_or_default();
        let known = lock(&self.shared.authorized).contains(&first_words(&shown));
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.channels.remove(&id).filter(|_| name == "sftp") {
            Some(channel) => {
                session.channel_success(id)?;
                let files = Files::new(Arc::clone(&self.shared));
                russh_sftp::server::run(channel.into_stream(), files).await;
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }
}

impl Shared {
    /// Where a path of a user is. None leads out of the folder.
    fn on_disk(&self, path: &str) -> PathBuf {
        let parts = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".."));
        parts.fold(self.root.clone(), |folder, part| folder.join(part))
    }

    /// What it says that is left.
    fn space(&self) -> u64 {
        match *lock(&self.cut_when_full) {
            true => u64::MAX,
            false => self.left.load(Ordering::SeqCst),
        }
    }

    /// Takes what is to be written from what may be.
    fn take(&self, bytes: u64) -> Result<(), Refusal> {
        // Of two at once that find no room, only one cuts.
        let mut cut_when_full = lock(&self.cut_when_full);
        let less = |left: u64| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if taken.is_ok() {
            return Ok(());
        }
        if !std::mem::take(&mut *cut_when_full) {
            return Err(Refusal::Full);
        }
        self.left.store(u64::MAX, Ordering::SeqCst);
        self.cut.send_modify(|cuts| *cuts += 1);
        Err(Refusal::Cut)
    }
}

/// Why something is not written.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Full,
    Cut,
}

/// A key without its comment.
fn first_words(public_key: &str) -> String {
    let words: Vec<_> = public_key.split_whitespace().take(2).collect();
    words.join(" ")
}

/// Whoever panicked with it has failed the test.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
