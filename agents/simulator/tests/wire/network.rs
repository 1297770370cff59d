//! A network between a node and an agent that delivers late: what came to it arrives, whatever
//! becomes of who sent it.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::cloud::{Cloud, Process, credentials, http};
use cairn_agent_protocol::Enrollment;
use cairn_tls::{Credentials, Identity, Limits, mutual_server, serve};
use cairn_types::{HostUuid, Uuid};

/// A request, and where its answer goes.
struct Parcel {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    answer: oneshot::Sender<Response>,
}

#[derive(Clone)]
struct Entrance {
    parcels: mpsc::UnboundedSender<Parcel>,
    taken: watch::Sender<usize>,
}

/// The way to one host's agent; requests go on one after another.
pub(crate) struct Network {
    open: watch::Sender<bool>,
    taken: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// From now on the node reaches the host through this network.
    pub(crate) async fn before(cloud: &Cloud, process: &Process, host: HostUuid) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (parcels, taken_in) = mpsc::unbounded_channel();
        let (open, taken) = (watch::Sender::new(true), watch::Sender::new(0));
        let entrance = Entrance {
            parcels,
            taken: taken.clone(),
        };
        let tls = mutual_server(&credentials_of(cloud, host)).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            tls,
            Router::new().fallback(enter).with_state(entrance),
            Limits::default(),
            CancellationToken::new(),
        ));
        let node = credentials(&cloud.ca, Identity::Node(Uuid::new_v4()));
        let client = http(&node, &[(host, process.address)]);
        let way = (client, host, process.address);
        tasks.spawn(deliver(taken_in, open.subscribe(), way));
        cloud.agents.set_address(host, address);
        Self {
            open,
            taken,
            _tasks: tasks,
        }
    }

    /// Nothing is delivered until [`Network::let_go`]; returns how much was taken in so far.
    pub(crate) fn hold(&self) -> usize {
        self.open.send_replace(false);
        *self.taken.borrow()
    }

    /// Waits until it has taken in more than that.
    pub(crate) async fn took_more_than(&self, count: usize) {
        let mut taken = self.taken.subscribe();
        taken.wait_for(|taken| *taken > count).await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        self.open.send_replace(true);
    }
}

async fn enter(
    State(entrance): State<Entrance>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (answer, answered) = oneshot::channel();
    let parcel = Parcel {
        uri,
        headers,
        body,
        answer,
    };
    entrance.parcels.send(parcel).ok().unwrap();
    entrance.taken.send_modify(|taken| *taken += 1);
    answered.await.unwrap()
}

async fn deliver(
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    mut open: watch::Receiver<bool>,
    (client, host, address): (reqwest::Client, HostUuid, SocketAddr),
) {
    let name = Identity::Host(host).dns_name();
    while let Some(parcel) = parcels.recv().await {
        open.wait_for(|open| *open).await.unwrap();
        let url = format!("https://{name}:{}{}", address.port(), parcel.uri.path());
        let request = client.post(url).headers(parcel.headers).body(parcel.body);
        let answer = match request.send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                (status, headers, answer.bytes().await.unwrap()).into_response()
            }
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        };
        // Who sent it may be gone.
        let _ = parcel.answer.send(answer);
    }
}

/// What the host's agent shows to its callers.
pub(crate) fn credentials_of(cloud: &Cloud, host: HostUuid) -> Credentials {
    let folder = cloud.agent_dir().join(host.to_string());
    let enrollment = std::fs::read(folder.join("node.json")).unwrap();
    let enrollment: Enrollment = serde_json::from_slice(&enrollment).unwrap();
    Credentials {
        certificate_pem: enrollment.certificate,
        key_pem: std::fs::read_to_string(folder.join("key.pem")).unwrap(),
        ca_pem: enrollment.ca_certificate,
    }
}
