//! A cloud with one node's agent side, and a simulator's process in this one.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use reqwest::StatusCode;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use cairn_agent::{AgentError, Agents, Delivered, Head, HostRegistry, callback_router};
use cairn_agent_protocol::{
    AgentCommand, CommandErrorCode, CommandHead, Connect, CreateVolume, Enrollment, Hello, Moment,
    header,
};
use cairn_agent_runtime::{AgentServer, Options};
use cairn_simulator::{Fault, FaultEffect, Record, Simulator};
use cairn_tls::{Ca, Credentials, Identity, Limits, mutual_server, serve};
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) fingerprints: Mutex<HashMap<HostUuid, String>>,
    pub(crate) ended: Mutex<HashSet<OperationUuid>>,
    /// Whether the node's answers to agents are lost on their way back.
    pub(crate) answers_lost: AtomicBool,
    /// How many callbacks of a known host came.
    pub(crate) callbacks: watch::Sender<usize>,
    pub(crate) hellos: watch::Sender<Vec<Hello>>,
    pub(crate) changed: watch::Sender<Vec<HostUuid>>,
}

#[async_trait]
impl HostRegistry for Registry {
    async fn admits(&self, host: HostUuid, fingerprint: &str) -> bool {
        let admitted = self
            .fingerprints
            .lock()
            .unwrap()
            .get(&host)
            .is_some_and(|known| known == fingerprint);
        self.callbacks
            .send_modify(|count| *count += usize::from(admitted));
        admitted
    }

    async fn operation_ended(&self, operation: OperationUuid) -> bool {
        self.ended.lock().unwrap().contains(&operation)
    }

    async fn hello(&self, hello: Hello) {
        self.hellos.send_modify(|hellos| hellos.push(hello));
    }

    async fn changed(&self, host: HostUuid) {
        self.changed.send_modify(|hosts| hosts.push(host));
    }
}

/// A cloud with one node's agent side.
pub(crate) struct Cloud {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: Ca,
    pub(crate) agents: Agents,
    pub(crate) registry: Arc<Registry>,
    pub(crate) callback: SocketAddr,
    _tasks: JoinSet<()>,
}

/// A node's agent side: what calls, what it knows, where it is called back.
pub(crate) async fn node(ca: &Ca) -> (Agents, Arc<Registry>, SocketAddr, JoinSet<()>) {
    node_with(ca, |options| options).await
}

async fn node_with(
    ca: &Ca,
    change: fn(cairn_agent::Options) -> cairn_agent::Options,
) -> (Agents, Arc<Registry>, SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = listener.local_addr().unwrap();
    let credentials = credentials(ca, Identity::Node(Uuid::new_v4()));
    let options = cairn_agent::Options {
        first_pause: Duration::from_millis(1),
        ..cairn_agent::Options::new(vec![format!("https://{callback}")])
    };
    let agents = Agents::new(change(options), &credentials).unwrap();
    let registry = Arc::new(Registry::default());
    let router = callback_router(agents.clone(), registry.clone());
    let losing = from_fn_with_state(registry.clone(), answer_or_lose);
    let router = router.layer(losing);
    let mut tasks = JoinSet::new();
    let tls = mutual_server(&credentials).unwrap();
    tasks.spawn(serve(
        listener,
        tls,
        router,
        Limits::default(),
        CancellationToken::new(),
    ));
    (agents, registry, callback, tasks)
}

async fn answer_or_lose(
    State(registry): State<Arc<Registry>>,
    request: Request,
    next: Next,
) -> Response {
    let answer = next.run(request).await;
    if registry.answers_lost.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    answer
}

/// A simulator's process.
pub(crate) struct Process {
    pub(crate) simulator: Simulator,
    pub(crate) server: AgentServer,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Process {
    pub(crate) async fn stop(mut self) -> Simulator {
        self.shutdown.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
        self.simulator
    }

    /// Waits until a command of the task has begun.
    pub(crate) async fn began(&self, task: TaskUuid) {
        self.simulator
            .wait_for(|all| all.iter().any(|record| record.task == task))
            .await;
    }

    pub(crate) fn runs_of(&self, task: TaskUuid) -> Vec<Record> {
        self.simulator
            .records()
            .into_iter()
            .filter(|record| record.task == task)
            .collect()
    }
}

impl Cloud {
    pub(crate) async fn new() -> Self {
        Self::with(|options| options).await
    }

    /// A cloud whose node has other options.
    pub(crate) async fn with(change: fn(cairn_agent::Options) -> cairn_agent::Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let (agents, registry, callback, tasks) = node_with(&ca, change).await;
        Self {
            dir,
            ca,
            agents,
            registry,
            callback,
            _tasks: tasks,
        }
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Where a host's agent keeps the results that were not acknowledged.
    pub(crate) fn results_of(&self, host: HostUuid) -> PathBuf {
        self.agent_dir().join(host.to_string()).join("tasks")
    }

    /// A process over the agents' state folder, with the hosts that are installed in it.
    pub(crate) async fn process(&self, simulator: Simulator, options: Options) -> Process {
        let server = simulator.server(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for host in server.hosts() {
            self.agents.set_address(host, address);
        }
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, stop) = (server.clone(), shutdown.clone());
        tasks.spawn(async move { running.run(listener, stop).await });
        Process {
            simulator,
            server,
            address,
            shutdown,
            tasks,
        }
    }

    pub(crate) async fn start(&self) -> Process {
        self.process(Simulator::default(), options(&self.agent_dir()))
            .await
    }

    /// Adds a host to a process, from its key to its hello.
    pub(crate) async fn add_host(&self, process: &Process) -> HostUuid {
        let host = HostUuid::generate();
        let enrollment = self.enroll(process, host).await;
        self.agents.set_address(host, process.address);
        process.server.install(host, enrollment).await.unwrap();
        self.heard_of(host, 1).await;
        host
    }

    pub(crate) async fn enroll(&self, process: &Process, host: HostUuid) -> Enrollment {
        let request = process.server.request(host).await.unwrap();
        let signed = self.ca.sign_host(&request, host).unwrap();
        self.registry
            .fingerprints
            .lock()
            .unwrap()
            .insert(host, signed.fingerprint);
        Enrollment {
            certificate: signed.certificate_pem,
            ca_certificate: self.ca.pem().to_owned(),
            callback_addresses: vec![format!("https://{}", self.callback)],
        }
    }

    /// Waits until the host's agent said hello so many times.
    pub(crate) async fn heard_of(&self, host: HostUuid, times: usize) {
        let mut hellos = self.registry.hellos.subscribe();
        hellos
            .wait_for(|all| all.iter().filter(|hello| hello.host == host).count() >= times)
            .await
            .unwrap();
    }

    pub(crate) async fn call<C: AgentCommand>(
        &self,
        host: HostUuid,
        head: Head,
        command: C,
    ) -> Result<Delivered<C::Reply>, AgentError> {
        self.agents.call(host, head, &command).await
    }

    /// Waits until the host's agent keeps no outcome any more.
    pub(crate) async fn has_forgotten_all(&self, host: HostUuid) {
        let results = self.results_of(host);
        wait_until(|| std::fs::read_dir(&results).is_ok_and(|files| files.count() == 0)).await;
    }

    /// Runs a task whose outcome is not reported, by a fault that is set already, and whose call ends
    /// before that, as when the node is killed.
    pub(crate) async fn left_behind(&self, process: &Process, host: HostUuid, head: Head) {
        let ended = process
            .simulator
            .wait_for(|all| all.iter().any(|r| r.task == head.task && r.ended.is_some()));
        tokio::select! {
            _ = self.call(host, head, Connect {}) => panic!("the report is lost"),
            () = ended => {}
        }
    }

    /// A call whose outcome is acknowledged at once.
    pub(crate) async fn done<C: AgentCommand>(
        &self,
        host: HostUuid,
        head: Head,
        command: C,
    ) -> Result<C::Reply, CommandErrorCode> {
        let delivered = self.call(host, head, command).await.unwrap();
        delivered.ack.committed();
        delivered.reply.map_err(|error| error.code)
    }
}

pub(crate) fn options(dir: &Path) -> Options {
    // Nothing is repeated but what a test repeats.
    let long = Duration::from_secs(3600);
    Options {
        first_pause: long,
        longest_pause: long,
        ..Options::new(dir)
    }
}

pub(crate) fn impatient(dir: &Path) -> Options {
    let short = Duration::from_millis(1);
    Options {
        first_pause: short,
        longest_pause: short,
        ..Options::new(dir)
    }
}

pub(crate) fn credentials(ca: &Ca, identity: Identity) -> Credentials {
    ca.issue(&identity, &["127.0.0.1".to_owned()])
        .unwrap()
        .with_ca(ca.pem())
}

pub(crate) fn http(
    credentials: &Credentials,
    resolve: &[(HostUuid, SocketAddr)],
) -> reqwest::Client {
    let mut client = reqwest::Client::builder()
        .tls_backend_preconfigured(cairn_tls::client(credentials).unwrap())
        .no_proxy();
    for (host, address) in resolve {
        client = client.resolve(&Identity::Host(*host).dns_name(), *address);
    }
    client.build().unwrap()
}

pub(crate) fn without_certificate(ca: &Ca) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn head() -> Head {
    Head {
        task: TaskUuid::generate(),
        operation: OperationUuid::generate(),
        resource: Uuid::new_v4(),
        token: 1,
        timeout: Duration::from_secs(60),
    }
}

pub(crate) fn only(host: HostUuid, times: u32, effect: FaultEffect) -> Fault {
    Fault {
        host: Some(host),
        times: Some(times),
        ..Fault::new(effect)
    }
}

pub(crate) fn volume() -> CreateVolume {
    let pool_path = "/pool".to_owned();
    CreateVolume {
        volume: Uuid::new_v4(),
        pool_path,
        size_bytes: 1 << 30,
        template: None,
    }
}

async fn post_seen(
    client: &reqwest::Client,
    process: &Process,
    host: HostUuid,
    head: Head,
    seen: Option<Moment>,
) -> (StatusCode, Moment) {
    let name = Identity::Host(host).dns_name();
    let url = format!(
        "https://{name}:{}/v1/commands/connect",
        process.address.port()
    );
    let Head {
        task,
        operation,
        resource,
        token,
        timeout,
    } = head;
    let head = CommandHead {
        task,
        operation,
        resource,
        token,
        timeout,
        callbacks: Vec::new(),
        seen,
        after: None,
        traceparent: None,
    };
    let mut request = client.post(url).body("{}");
    for (name, value) in head.to_headers() {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let moment = answer.headers()[header::MOMENT].to_str().unwrap();
    (answer.status(), moment.parse().unwrap())
}

/// Posts a command as somebody who has heard nothing of the host, and then what it said.
pub(crate) async fn post(
    client: &reqwest::Client,
    process: &Process,
    host: HostUuid,
    head: Head,
) -> StatusCode {
    let (status, moment) = post_seen(client, process, host, head, None).await;
    if status != StatusCode::PRECONDITION_FAILED {
        return status;
    }
    post_seen(client, process, host, head, Some(moment)).await.0
}

/// Waits for a state of the file system, which tells nobody of its changes.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}
