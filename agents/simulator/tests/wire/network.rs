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
    request: Request,
    answer: oneshot::Sender<Response>,
}

#[derive(Clone)]
struct Request {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone)]
struct Entrance {
    parcels: mpsc::UnboundedSender<Parcel>,
    taken: watch::Sender<Vec<Request>>,
}

impl Entrance {
    async fn send(&self, request: Request) -> Response {
        let (answer, answered) = oneshot::channel();
        let parcel = Parcel { request, answer };
        self.parcels.send(parcel).ok().unwrap();
        answered.await.unwrap()
    }
}

/// The way to one host's agent; requests go on one after another.
pub(crate) struct Network {
    open: watch::Sender<bool>,
    entrance: Entrance,
    target: watch::Sender<SocketAddr>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// From now on the node reaches the host through this network.
    pub(crate) async fn before(cloud: &Cloud, process: &Process, host: HostUuid) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (parcels, taken_in) = mpsc::unbounded_channel();
        let (open, taken) = (watch::Sender::new(true), watch::Sender::default());
        let entrance = Entrance { parcels, taken };
        let tls = mutual_server(&credentials_of(cloud, host)).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            tls,
            Router::new().fallback(enter).with_state(entrance.clone()),
            Limits::default(),
            CancellationToken::new(),
        ));
        let node = credentials(&cloud.ca, Identity::Node(Uuid::new_v4()));
        let client = http(&node, &[(host, process.address)]);
        let target = watch::Sender::new(process.address);
        let way = (client, host, target.subscribe());
        tasks.spawn(deliver(taken_in, open.subscribe(), way));
        cloud.agents.set_address(host, address);
        Self {
            open,
            entrance,
            target,
            _tasks: tasks,
        }
    }

    /// Nothing is delivered until [`Network::let_go`]; returns how much was taken in so far.
    pub(crate) fn hold(&self) -> usize {
        self.open.send_replace(false);
        self.taken()
    }

    /// How much was taken in so far.
    pub(crate) fn taken(&self) -> usize {
        self.entrance.taken.borrow().len()
    }

    /// Waits until it has taken in more than that.
    pub(crate) async fn took_more_than(&self, count: usize) {
        let mut taken = self.entrance.taken.subscribe();
        taken.wait_for(|taken| taken.len() > count).await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        self.open.send_replace(true);
    }

    /// The host's agent is another process now.
    pub(crate) fn leads_to(&self, process: &Process) {
        self.target.send_replace(process.address);
    }

    /// Delivers all that it has taken in once more, and gives the answers.
    pub(crate) async fn deliver_again(&self) -> Vec<StatusCode> {
        let taken = self.entrance.taken.borrow().clone();
        let mut answers = Vec::new();
        for request in taken {
            answers.push(self.entrance.send(request).await.status());
        }
        answers
    }
}

async fn enter(
    State(entrance): State<Entrance>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Request { uri, headers, body };
    let sent = entrance.send(request.clone());
    entrance.taken.send_modify(|taken| taken.push(request));
    sent.await
}

async fn deliver(
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    mut open: watch::Receiver<bool>,
    (client, host, target): (reqwest::Client, HostUuid, watch::Receiver<SocketAddr>),
) {
    let name = Identity::Host(host).dns_name();
    while let Some(parcel) = parcels.recv().await {
        open.wait_for(|open| *open).await.unwrap();
        let Request { uri, headers, body } = parcel.request;
        let port = target.borrow().port();
        let url = format!("https://{name}:{port}{}", uri.path());
        let request = client.post(url).headers(headers).body(body);
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
