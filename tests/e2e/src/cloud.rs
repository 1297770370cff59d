//! A cloud: a node in this process, and simulated hosts.

use std::{
    collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration,
};

use cairn_agent_protocol::Enrollment;
use cairn_agent_runtime::{AgentServer, Options};
use cairn_boot::Spanned;
use cairn_node::{Additions, Config, DatabaseUrl, Node, PolicyName, ServiceName};
use cairn_operation::Failpoints;
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{
        ClusterClient, CreateClusterRequest, CreateHostRequest, CreateZoneRequest,
        EnrollHostRequest, GetHostRequest, Host, HostClient, HostStatus, HypervisorType,
        QueryHostRequest, ZoneClient,
    },
    event::result,
};
use cairn_simulator::Simulator;
use cairn_store::Store;
use cairn_testkit::{Database, PostgresServer, SftpServer, wait_for, wait_until};
use cairn_types::HostUuid;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    task::{JoinSet, block_in_place},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Access, assert_sound, remote};

/// How long a test waits for a state.
const LIMIT: Duration = Duration::from_secs(30);

/// A node and simulated hosts. Everything ends with it, and the last is that the doctor examines
/// it: see [`Cloud::leaves`].
pub struct Cloud {
    /// What is on the hosts.
    pub simulator: Simulator,
    /// Where images are kept.
    pub sftp: SftpServer,
    /// What the node runs; everything if it is not said.
    pub services: Option<Vec<ServiceName>>,
    /// The pause between the node's rounds of pings, in milliseconds.
    pub ping_interval_ms: u64,
    leaves: BTreeSet<&'static str>,
    /// Where the flows of the node are held, failed or repeated.
    pub failpoints: Option<Arc<dyn Failpoints>>,
    /// The operator's flows.
    pub flows: Option<PathBuf>,
    /// What a delete does to what can be kept, and for how many seconds it is kept.
    pub deletion: (PolicyName, u64),
    // Before the server of its database: fields are dropped in their order.
    node: Option<Node>,
    postgres: Option<PostgresServer>,
    directory: TempDir,
    ports: Option<(SocketAddr, SocketAddr)>,
    agents: Agents,
}

struct Agents {
    server: AgentServer,
    address: SocketAddr,
    task: JoinSet<()>,
    stop: CancellationToken,
}

/// A zone with a cluster of simulated hosts.
pub struct Site {
    /// The zone.
    pub zone: String,
    /// The cluster.
    pub cluster: String,
    /// Its hosts, connected.
    pub hosts: Vec<Host>,
}

impl Site {
    /// A zone with a cluster for simulated hosts, without any.
    pub async fn empty(mesh: &Mesh) -> Self {
        Self::of(mesh, HypervisorType::Simulator).await
    }

    /// A zone with a cluster for hosts of a kind, without any.
    pub async fn of(mesh: &Mesh, hypervisor: HypervisorType) -> Self {
        let zone = CreateZoneRequest {
            name: "zone".into(),
            ..Default::default()
        };
        let zone = result(
            ZoneClient::new(mesh.clone())
                .create_zone(zone)
                .await
                .unwrap(),
        );
        let zone = zone.await.unwrap().uuid;
        let cluster = CreateClusterRequest {
            name: "cluster".into(),
            zone_uuid: zone.clone(),
            hypervisor_type: hypervisor.into(),
            ..Default::default()
        };
        let clusters = ClusterClient::new(mesh.clone());
        let cluster = result(clusters.create_cluster(cluster).await.unwrap())
            .await
            .unwrap()
            .uuid;
        Self {
            zone,
            cluster,
            hosts: Vec::new(),
        }
    }
}

/// Makes the row of a simulated host whose agent listens at `address`.
pub async fn create_host(mesh: &Mesh, cluster: &str, name: &str, address: SocketAddr) -> HostUuid {
    let hosts = HostClient::new(mesh.clone());
    let request = CreateHostRequest {
        name: name.to_owned(),
        cluster_uuid: cluster.to_owned(),
        address: address.to_string(),
        ..Default::default()
    };
    let host = result(hosts.create_host(request).await.unwrap())
        .await
        .unwrap();
    host.uuid.parse().unwrap()
}

/// Has the agent's request for a certificate signed.
pub async fn enroll_host(mesh: &Mesh, host: HostUuid, certificate_request: String) -> Enrollment {
    let hosts = HostClient::new(mesh.clone());
    let enroll = EnrollHostRequest {
        uuid: host.to_string(),
        certificate_request,
    };
    let enrolled = result(hosts.enroll_host(enroll).await.unwrap())
        .await
        .unwrap();
    Enrollment {
        certificate: enrolled.certificate,
        ca_certificate: enrolled.ca_certificate,
        callback_addresses: enrolled.callback_addresses,
    }
}

/// Waits until a host has a status.
pub async fn host_in(mesh: &Mesh, uuid: &str, status: HostStatus) -> Host {
    let hosts = HostClient::new(mesh.clone());
    let read = async || {
        let request = GetHostRequest {
            uuid: uuid.to_owned(),
        };
        hosts.get_host(request).await.unwrap().host.unwrap()
    };
    wait_until(
        &format!("host {status:?}"),
        read,
        |host| host.status() == status,
        LIMIT,
    )
    .await
}

impl Cloud {
    /// A cloud without hosts, serving.
    pub async fn start() -> Self {
        Self::start_on(Database::Sqlite).await
    }

    /// A cloud without hosts, serving from such a database.
    pub async fn start_on(database: Database) -> Self {
        let mut cloud = Self::prepare_on(database).await;
        cloud.start_node().await;
        cloud
    }

    /// The hosts' agent, and a data directory for a node.
    pub async fn prepare() -> Self {
        Self::prepare_on(Database::Sqlite).await
    }

    /// The hosts' agent, a data directory for a node, and such a database.
    pub async fn prepare_on(database: Database) -> Self {
        let postgres = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(PostgresServer::start().await),
        };
        let directory = tempfile::tempdir().unwrap();
        let simulator = Simulator::default();
        let agents = Agents::start(&simulator, directory.path().join("agents"), None).await;
        Self {
            simulator,
            sftp: SftpServer::start().await,
            services: None,
            ping_interval_ms: 50,
            leaves: BTreeSet::new(),
            failpoints: None,
            flows: None,
            deletion: (PolicyName::Direct, 1),
            node: None,
            postgres,
            directory,
            ports: None,
            agents,
        }
    }

    /// The node's configuration. Once it has served, it serves at the same addresses again.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.directory.path().join("node"));
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (public, callback) = self.ports.unwrap_or((free, free));
        config.public.listen = public;
        config.callback.listen = callback;
        config.services = self
            .services
            .clone()
            .map(|services| Spanned::new(0..0, services));
        *config.hosts.ping_interval_ms.get_mut() = self.ping_interval_ms;
        config.flows.directory.clone_from(&self.flows);
        let (policy, kept_secs) = self.deletion;
        let deletion = &mut config.deletion;
        (deletion.vm_instance, deletion.image) = (policy, policy);
        *deletion.vm_instance_kept_secs.get_mut() = kept_secs;
        *deletion.image_kept_secs.get_mut() = kept_secs;
        *deletion.expunge_interval_secs.get_mut() = 1;
        let url = self.postgres.as_ref().map(PostgresServer::url);
        config.database.url = url.map(|url| Spanned::new(0..0, DatabaseUrl(url)));
        config
    }

    /// The server of its database, if it has one.
    pub fn postgres(&mut self) -> Option<&mut PostgresServer> {
        self.postgres.as_mut()
    }

    /// The node's configuration as a file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let config = self.config();
        let mut text = format!(
            "data_directory = {:?}\n[public]\nlisten = \"{}\"\n[callback]\nlisten = \"{}\"\n\
             [hosts]\nping_interval_ms = {}\n",
            config.data_directory.get_ref(),
            config.public.listen,
            config.callback.listen,
            config.hosts.ping_interval_ms.get_ref(),
        );
        if let Some(server) = &self.postgres {
            text += &format!("[database]\nurl = \"{}\"\n", server.url());
        }
        let path = self.directory.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Keeps the addresses that a node serves at, for its next start.
    pub fn keep_ports(&mut self, public: SocketAddr, callback: SocketAddr) {
        self.ports = Some((public, callback));
    }

    /// Says that a test leaves things of these kinds on purpose, as the doctor calls them. Without
    /// it, it must find nothing when the cloud ends. [`GONE_HOST`] is what is on hosts that have
    /// no row.
    pub fn leaves(&mut self, kinds: &[&'static str]) {
        self.leaves.extend(kinds);
    }

    /// The database of the node, which runs in this process.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.node.as_ref().unwrap().store()
    }

    /// Starts the node.
    pub async fn start_node(&mut self) {
        let additions = Additions {
            failpoints: self.failpoints.clone(),
            ..Additions::default()
        };
        let node = Node::start_with(self.config(), additions).await.unwrap();
        self.ports = Some((node.public_address(), node.callback_address()));
        self.node = Some(node);
    }

    /// The running node.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// Stops the node.
    pub async fn stop_node(&mut self) {
        self.node.take().unwrap().stop(LIMIT).await;
    }

    /// Ends the node as if its process had died, and waits until nothing of it is left.
    pub async fn kill_node(&mut self) {
        let killed = timeout(LIMIT, self.node.take().unwrap().kill());
        killed.await.expect("the node is gone");
    }

    /// Stops the hosts' agent, as if the machines had lost their network.
    pub async fn stop_agents(&mut self) {
        self.agents.stop.cancel();
        while self.agents.task.join_next().await.is_some() {}
    }

    /// Starts the hosts' agent again, at the same address.
    pub async fn start_agents(&mut self) {
        let folder = self.directory.path().join("agents");
        self.agents = Agents::start(&self.simulator, folder, Some(self.agents.address)).await;
    }

    /// The administrator's credential.
    #[must_use]
    pub fn credential_file(&self) -> PathBuf {
        self.directory.path().join("node/admin.json")
    }

    /// The node's data directory.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("node")
    }

    /// Calls as the administrator.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        remote(&Access::read(&self.credential_file()))
    }

    /// Makes a zone with a cluster of so many hosts, and waits until they are connected.
    pub async fn site(&self, hosts: usize) -> Site {
        let mut site = Site::empty(&self.mesh()).await;
        for number in 0..hosts {
            let host = self
                .add_host(&site.cluster, &format!("host-{number}"))
                .await;
            site.hosts.push(self.connected(&host).await);
        }
        site
    }

    /// Adds a simulated host to a cluster and enrols its agent.
    pub async fn add_host(&self, cluster: &str, name: &str) -> String {
        let (mesh, server) = (self.mesh(), &self.agents.server);
        let host = create_host(&mesh, cluster, name, self.agents.address).await;
        let request = server.request(host).await.unwrap();
        server
            .install(host, enroll_host(&mesh, host, request).await)
            .await
            .unwrap();
        host.to_string()
    }

    /// Waits until a host is connected.
    pub async fn connected(&self, uuid: &str) -> Host {
        self.host_in(uuid, HostStatus::Connected).await
    }

    /// Waits until a host has a status.
    pub async fn host_in(&self, uuid: &str, status: HostStatus) -> Host {
        host_in(&self.mesh(), uuid, status).await
    }
}

/// What [`Cloud::leaves`] calls what is on hosts that are deleted.
pub const GONE_HOST: &str = "gone-host";

impl Drop for Cloud {
    /// Whatever a test was about, the doctor has the last word, and nothing of the cloud goes on.
    /// Nothing is examined of one that failed, or that never had a node.
    fn drop(&mut self) {
        if thread::panicking() || self.ports.is_none() {
            return;
        }
        block_in_place(|| Handle::current().block_on(self.end()));
    }
}

impl Cloud {
    async fn end(&mut self) {
        self.examine_at_the_end().await;
        self.kill_node().await;
        self.stop_agents().await;
    }

    async fn examine_at_the_end(&mut self) {
        self.simulator.release_all();
        if self.agents.stop.is_cancelled() {
            self.start_agents().await;
        }
        // One that serves a part only cannot judge the rest, and one that is held goes on.
        let is_usual = self.services.take().is_none() && self.failpoints.take().is_none();
        if !is_usual && self.node.is_some() {
            self.stop_node().await;
        }
        // One that was killed may still be about to go.
        if self.node.is_none() {
            let start = async || Node::start(self.config()).await.ok();
            self.node = Some(wait_for("a node", start, LIMIT).await);
        }

        let mesh = self.mesh();
        let hosts = HostClient::new(mesh.clone());
        let rows = hosts.query_host(QueryHostRequest::default()).await;
        let rows = rows.unwrap().hosts.into_iter().map(|host| host.uuid);
        let (served, rows): (Vec<_>, Vec<_>) = (self.agents.server.hosts(), rows.collect());
        let (hosts, gone): (Vec<_>, Vec<_>) = served
            .into_iter()
            .partition(|host| rows.contains(&host.to_string()));
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let leaves_gone = self.leaves.remove(GONE_HOST);
        assert_sound(&mesh, &hosts, &self.leaves).await;
        let left = self.simulator.hosts().into_iter().filter(|host| {
            let is_empty = host.vms.is_empty()
                && host.volumes.is_empty()
                && host.images.is_empty()
                && host.bridges.is_empty();
            gone.contains(&host.host) && !is_empty
        });
        let left: Vec<_> = left.collect();
        assert_eq!(
            leaves_gone,
            !left.is_empty(),
            "on hosts that are gone: {left:?}"
        );
    }
}

impl Agents {
    async fn start(simulator: &Simulator, folder: PathBuf, at: Option<SocketAddr>) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let options = Options {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(200),
            ..Options::new(folder)
        };
        let server = simulator.server(options).unwrap();
        let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        let (running, stopping) = (server.clone(), stop.clone());
        task.spawn(async move { running.run(listener, stopping).await });
        Self {
            server,
            address,
            task,
            stop,
        }
    }
}
