//! Starting and stopping: the parts of a node in the order in which they need each other.

mod areas;
mod check;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cairn_agent::{AgentError, Agents, callback_router};
use cairn_boot::{CancellationToken, Tasks, metrics};
use cairn_flow::{FlowError, Flows, Gc, WrongFlows, gc};
use cairn_identity_service::{AdminError, Tokens, ensure_admin};
use cairn_mesh::{
    LocalMesh, ServeError,
    door::{Authenticator, CallLimits, Door},
};
use cairn_operation::{Failpoints, KEPT, Operations};
use cairn_proto::{fault::Fault, meta::Catalog};
use cairn_queue::Queues;
use cairn_resource::Resources;
use cairn_sftp::{SftpError, SshKey};
use cairn_store::{Migration, Store, StoreError, WrongConfig};
use cairn_tls::{Ca, Identity, Limits, TlsError, mutual_server, public_server, serve};
use cairn_types::{Coded, ErrorCode, Uuid};
use tokio::{net::TcpListener, time::timeout};
use tracing::{error, info, warn};

use crate::{Config, ServiceName};
use areas::{Areas, Parts, migrations};

pub use check::check;

/// Ended operations are deleted this often.
const HOUSEKEEPING: Duration = Duration::from_secs(60 * 60);
/// What a stop leaves to open requests before it drops them.
const DRAIN: Duration = Duration::from_secs(5);

/// A running node, until it is stopped or killed.
pub struct Node {
    public: SocketAddr,
    callback: SocketAddr,
    credential: PathBuf,
    store: Store,
    operations: Operations,
    flows: Flows,
    tasks: Tasks,
}

/// What the one who links a node may add to it.
#[derive(Default)]
pub struct Additions {
    /// Places where a test may hold the runs of operations.
    pub failpoints: Option<Arc<dyn Failpoints>>,
    /// What resources there are, in place of the built-in ones: those and more.
    pub catalog: Option<Arc<Catalog>>,
    /// The tables of those that were added.
    pub migrations: Vec<Migration>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error("use the data directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is no place for temporary files.
    #[error("make a temporary directory")]
    Temporary(#[source] io::Error),
    /// What the configuration says of the database is wrong.
    #[error("read the configuration of the database")]
    Database(#[from] WrongConfig),
    /// The database does not open.
    #[error("open the database")]
    Store(#[from] StoreError),
    /// The CA or a certificate cannot be made or read.
    #[error("prepare the node's certificates")]
    Tls(#[from] TlsError),
    /// The cloud's SSH key cannot be made or read.
    #[error("prepare the cloud's SSH key")]
    SshKey(#[from] SftpError),
    /// The client for agents cannot be made.
    #[error("prepare to talk to agents")]
    Agents(#[from] AgentError),
    /// The administrator's credential cannot be made or read.
    #[error("prepare the administrator's credential")]
    Admin(#[from] AdminError),
    /// A listener does not open.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The flows do not fit together, or a file of one is wrong.
    #[error("read the flows")]
    Flows(#[from] WrongFlows),
    /// A flow does not fit the rpc that runs it.
    #[error("put the flows together")]
    Flow(#[from] FlowError),
    /// Services that cannot run together.
    #[error("put the services together")]
    Services(#[from] ServeError),
    /// The operations of the last run cannot be taken up.
    #[error("take up unfinished operations: {}", .0.message)]
    Recover(Fault),
}

impl Coded for NodeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Store(cause) => cause.code(),
            Self::Recover(fault) => fault.code,
            Self::Flows(cause) => cause.code(),
            _ => ErrorCode::Internal,
        }
    }
}

impl Node {
    /// Starts a node and returns when it serves. Operations that the last run left are under way
    /// again by then.
    ///
    /// # Errors
    /// [`NodeError`], as its variants say; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        Self::start_with(config, Additions::default()).await
    }

    /// [`Node::start`], with what a configuration file cannot say.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(config: Config, additions: Additions) -> Result<Self, NodeError> {
        let Additions {
            failpoints,
            catalog,
            migrations: added,
        } = additions;
        let catalog = catalog.unwrap_or_else(Catalog::built_in);
        let migrations = [migrations(), added].concat();
        let directory = config.data_directory.get_ref();
        make_private(directory)?;
        // First of all: it holds the lock that keeps a second process out.
        let store = config.database.store(directory)?;
        let store = Store::open(&store, catalog, &migrations).await?;
        let ca = Arc::new(Ca::load_or_create(directory)?);
        let ssh_key = SshKey::load_or_create(directory)?;
        let id = node_uuid(directory)?;

        let (public_listener, public) = listen(config.public.listen).await?;
        let (callback_listener, callback) = listen(config.callback.listen).await?;
        let mut names = config.public.names.clone();
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.extend([public.ip(), callback.ip()].map(|ip| ip.to_string()));
        names.sort_unstable();
        names.dedup();
        let credentials = ca.issue(&Identity::Node(id), &names)?.with_ca(ca.pem());

        let mut callback_addresses = config.callback.addresses.get_ref().clone();
        if callback_addresses.is_empty() {
            callback_addresses.push(format!("https://{callback}"));
        }
        let options = cairn_agent::Options {
            commands_at_once: *config.limits.commands_per_host.get_ref(),
            ..cairn_agent::Options::new(callback_addresses.clone())
        };
        let agents = Agents::new(options, &credentials)?;
        let mesh = LocalMesh::new(id);
        let areas = Areas::new(
            &config,
            &Parts {
                store: &store,
                mesh: &mesh,
                agents: &agents,
                ca: &ca,
                ssh_key: &ssh_key,
                callback_addresses: &callback_addresses,
            },
        );
        let operations = Operations::builder(store.clone(), Queues::default());
        let operations = operations.logs(cairn_flow::TABLES).leftovers(gc::TABLE);
        let mut flows = areas.flows(&config, store.catalog())?;
        let mut operations = areas.register(operations, &mut flows)?;
        if let Some(failpoints) = failpoints {
            operations = operations.failpoints(failpoints);
        }
        let operations = operations.build();
        let resources = Resources::new(operations.clone(), store.clone());
        let gc = Gc::new(store.clone(), operations.clone());
        mesh.serve(
            areas.services(&config, &resources, &operations, &gc, &store),
            areas.extensions(&config),
        )?;
        areas.compute.prepare().await?;
        let recovered = operations.recover().await.map_err(NodeError::Recover)?;

        let credential = directory.join("admin.json");
        let endpoint = endpoint(public, &config.public.names);
        ensure_admin(&store, &credential, &endpoint, ca.pem()).await?;
        let tokens: Arc<dyn Authenticator> = Arc::new(Tokens::new(store.clone()));
        let door = Door {
            mesh: mesh.handle(),
            methods: mesh.methods().collect(),
            authenticator: tokens,
            descriptors: store.catalog().pool().clone(),
            metrics: metrics::render,
            limits: CallLimits::new(
                *config.limits.calls.get_ref(),
                *config.limits.calls_per_account.get_ref(),
            ),
        };
        let (router, _health) = door.router();
        let limits = Limits {
            drain: DRAIN,
            ..Limits::default()
        };

        let tasks = Tasks::new();
        let callback_router = callback_router(agents, areas.compute.registry());
        let (public_tls, callback_tls) =
            (public_server(&credentials)?, mutual_server(&credentials)?);
        tasks.start_once("callback door", move |stop| {
            serve(
                callback_listener,
                callback_tls,
                callback_router,
                limits,
                stop,
            )
        });
        tasks.start_once("public door", move |stop| {
            serve(public_listener, public_tls, router, limits, stop)
        });
        if config.runs(ServiceName::Compute) {
            tasks.start_once("host monitor", move |stop| areas.compute.watch(stop));
        }
        if config.runs(ServiceName::Storage) {
            tasks.start_once("backup storage monitor", move |stop| {
                areas.storage.watch(stop)
            });
        }
        if config.runs(ServiceName::Operation) {
            tasks.start_once("garbage collector", move |stop| gc.run(stop));
        }
        let housekeeper = operations.clone();
        tasks.start_once("housekeeping", async move |stop: CancellationToken| {
            stop.run_until_cancelled(housekeeping(housekeeper)).await;
        });
        info!(node = %id, %public, %callback, recovered, directory = %directory.display(), "serving");
        Ok(Self {
            public,
            callback,
            credential,
            store,
            operations,
            flows,
            tasks,
        })
    }

    /// Where the public listener is.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where the callback listener is.
    #[must_use]
    pub fn callback_address(&self) -> SocketAddr {
        self.callback
    }

    /// The file with the administrator's credential.
    #[must_use]
    pub fn credential_file(&self) -> &Path {
        &self.credential
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its flows, and the rpcs that run them.
    #[must_use]
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Ends when a task that the node cannot do without has failed.
    pub async fn failed(&self) {
        self.tasks.stopping().cancelled().await;
    }

    /// Stops: takes no more calls, lets open ones end, leaves running operations to the next
    /// start. What does not stop within the limit is dropped.
    pub async fn stop(self, limit: Duration) {
        let graceful = async {
            self.operations.shutdown().await;
            if let Err(stuck) = self.tasks.shutdown(limit).await {
                error!(?stuck, "tasks did not stop");
            }
            self.store.close().await;
        };
        if timeout(limit + DRAIN, graceful).await.is_err() {
            error!("the node did not stop in time");
        }
    }

    /// Ends as if the process had died: calls are cut, and what runs is dropped where it is. For
    /// tests, which may start another one over its data as soon as this returns.
    pub async fn kill(self) {
        self.tasks.abort().await;
        self.operations.shutdown().await;
        self.store.close().await;
    }
}

async fn housekeeping(operations: Operations) {
    let mut rounds = tokio::time::interval(HOUSEKEEPING);
    loop {
        rounds.tick().await;
        if let Err(fault) = operations.purge(KEPT).await {
            warn!(
                error = fault.message,
                "delete operations that ended long ago"
            );
        }
    }
}

/// Where clients call the node. An address that stands for all of a machine's leads nowhere from
/// elsewhere: then it is the first name that the configuration has.
fn endpoint(public: SocketAddr, names: &[String]) -> String {
    let name = names.first().filter(|_| public.ip().is_unspecified());
    match name.map(|name| (name, name.parse::<IpAddr>())) {
        Some((_, Ok(ip))) => format!("https://{}", SocketAddr::new(ip, public.port())),
        Some((name, Err(_))) => format!("https://{name}:{}", public.port()),
        None => format!("https://{public}"),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen
        .await
        .map_err(|cause| NodeError::Listen { address, cause })
}

fn make_private(directory: &Path) -> Result<(), NodeError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|cause| NodeError::Directory {
        path: directory.to_owned(),
        cause,
    })
}

/// The node's own uuid: made once, kept beside the database.
fn node_uuid(directory: &Path) -> Result<Uuid, NodeError> {
    let path = directory.join("node.uuid");
    let failed = |cause| NodeError::Directory {
        path: path.clone(),
        cause,
    };
    match fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let uuid = Uuid::now_v7();
            cairn_tls::write_private_file(&path, uuid.to_string().as_bytes()).map_err(failed)?;
            Ok(uuid)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_leads_here() {
        for (listen, names, expected) in [
            (
                "127.0.0.1:7070",
                &["node.example"][..],
                "https://127.0.0.1:7070",
            ),
            ("0.0.0.0:7070", &[], "https://0.0.0.0:7070"),
            (
                "0.0.0.0:7070",
                &["node.example", "x"],
                "https://node.example:7070",
            ),
            ("0.0.0.0:7070", &["192.0.2.1"], "https://192.0.2.1:7070"),
            ("[::]:7070", &["2001:db8::1"], "https://[2001:db8::1]:7070"),
        ] {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(endpoint(listen.parse().unwrap(), &names), expected);
        }
    }
}
