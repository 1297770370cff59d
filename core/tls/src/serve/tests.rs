//! Who gets through the doors, and how they close.

use std::{net::SocketAddr, sync::Arc};

use axum::{Extension, Router, routing::get};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinSet,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

use super::{Limits, Peer, serve};
use crate::{Ca, Credentials, Identity, client, fingerprint, mutual_server, public_server};
use cairn_types::{HostUuid, Uuid};

struct Cloud {
    ca: Ca,
    _folder: tempfile::TempDir,
}

impl Cloud {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            ca: Ca::load_or_create(folder.path()).unwrap(),
            _folder: folder,
        }
    }

    fn credentials(&self, identity: Identity) -> Credentials {
        self.ca
            .issue(&identity, &["127.0.0.1".to_owned()])
            .unwrap()
            .with_ca(self.ca.pem())
    }

    fn node(&self) -> Credentials {
        self.credentials(Identity::Node(Uuid::new_v4()))
    }
}

struct Door {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

async fn open(tls: Arc<rustls::ServerConfig>, router: Router, limits: Limits) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, tls, router, limits, shutdown.clone()));
    Door {
        address,
        shutdown,
        tasks,
    }
}

fn who() -> Router {
    Router::new().route(
        "/",
        get(async |Extension(peer): Extension<Peer>| {
            format!("{:?} {:?}", peer.identity, peer.fingerprint)
        }),
    )
}

fn http(config: rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .no_proxy()
        .build()
        .unwrap()
}

fn without_certificate(ca_pem: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn ask(door: &Door, config: rustls::ClientConfig) -> Result<String, reqwest::Error> {
    http(config)
        .get(format!("https://{}/", door.address))
        .send()
        .await?
        .text()
        .await
}

#[tokio::test]
async fn a_member_is_known_by_its_certificate() {
    let cloud = Cloud::new();
    let door = open(
        mutual_server(&cloud.node()).unwrap(),
        who(),
        Limits::default(),
    )
    .await;
    let host = Identity::Host(HostUuid::generate());
    let caller = cloud.credentials(host);
    let print =
        fingerprint(&CertificateDer::from_pem_slice(caller.certificate_pem.as_bytes()).unwrap());
    let seen = ask(&door, client(&caller).unwrap()).await.unwrap();
    assert_eq!(seen, format!("{:?} {:?}", Some(host), Some(print)));
}

#[tokio::test]
async fn a_member_only_door_refuses_everyone_else() {
    let (cloud, stranger) = (Cloud::new(), Cloud::new());
    let door = open(
        mutual_server(&cloud.node()).unwrap(),
        who(),
        Limits::default(),
    )
    .await;
    assert!(
        ask(&door, without_certificate(cloud.ca.pem()))
            .await
            .is_err()
    );
    let foreign = Credentials {
        ca_pem: cloud.ca.pem().to_owned(),
        ..stranger.node()
    };
    assert!(ask(&door, client(&foreign).unwrap()).await.is_err());
    // And a member does not talk to a door of another cloud.
    assert!(ask(&door, client(&stranger.node()).unwrap()).await.is_err());
}

#[tokio::test]
async fn the_public_door_knows_nobody_and_speaks_tls_only() {
    let cloud = Cloud::new();
    let door = open(
        public_server(&cloud.node()).unwrap(),
        who(),
        Limits::default(),
    )
    .await;
    let seen = ask(&door, without_certificate(cloud.ca.pem()))
        .await
        .unwrap();
    assert_eq!(seen, "None None");

    let mut plain = TcpStream::connect(door.address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_handshake_has_a_time_limit() {
    let cloud = Cloud::new();
    let limits = Limits {
        handshake: Duration::from_millis(1),
        ..Limits::default()
    };
    let door = open(public_server(&cloud.node()).unwrap(), who(), limits).await;
    let mut silent = TcpStream::connect(door.address).await.unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
}

/// A door with one route, whose handler says that it started and then waits to be released.
async fn slow_door(cloud: &Cloud, drain: Duration) -> (Door, oneshot::Receiver<()>, Arc<Notify>) {
    let (started, has_started) = oneshot::channel();
    let started = Arc::new(std::sync::Mutex::new(Some(started)));
    let release = Arc::new(Notify::new());
    let router = Router::new().route(
        "/",
        get({
            let release = release.clone();
            async move || {
                if let Some(started) = started.lock().unwrap().take() {
                    started.send(()).unwrap();
                }
                release.notified().await;
                "done"
            }
        }),
    );
    let limits = Limits {
        drain,
        ..Limits::default()
    };
    let door = open(mutual_server(&cloud.node()).unwrap(), router, limits).await;
    (door, has_started, release)
}

#[tokio::test]
async fn a_stop_lets_open_requests_end() {
    let cloud = Cloud::new();
    let (mut door, started, release) = slow_door(&cloud, Duration::from_secs(60)).await;
    let request = ask(&door, client(&cloud.node()).unwrap());
    let stop = async {
        started.await.unwrap();
        door.shutdown.cancel();
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert_eq!(answer.unwrap(), "done");
    door.tasks.join_next().await.unwrap().unwrap();
    assert!(
        TcpStream::connect(door.address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let cloud = Cloud::new();
    let (mut door, started, _release) = slow_door(&cloud, Duration::from_millis(1)).await;
    let request = ask(&door, client(&cloud.node()).unwrap());
    let stop = async {
        started.await.unwrap();
        door.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert!(answer.is_err());
    door.tasks.join_next().await.unwrap().unwrap();
}
