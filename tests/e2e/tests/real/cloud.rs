//! A cloud of real hosts. Everything ends with it, and the last is that the doctor examines it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use cairn_e2e::{
    Access, HeldNode, Ready, Recipe, Site, assert_sound, host_in, own_addresses, remote,
};
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{
        CreateVmInstanceRequest, DeleteVmInstanceRequest, GetVmInstanceRequest, Host, HostClient,
        HostStatus, HypervisorType, QueryHostRequest, RebootVmInstanceRequest,
        StartVmInstanceRequest, StopVmInstanceRequest, VmInstance, VmInstanceClient,
        VmInstanceState as State,
    },
    event::result,
    network::v1alpha1::{QueryVmNicRequest, VmNicClient},
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_testkit::{SftpServer, wait_until};
use tempfile::TempDir;
use tokio::{runtime::Handle, task::block_in_place};

use crate::{guest::Guest, host::RealHost, namespace::Namespace};

const NODE: &str = env!("CARGO_BIN_EXE_held-node");

/// How long a state may take. Others may be at work on this machine, too.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The memory of a virtual machine.
pub(crate) const MEMORY: u64 = 128 << 20;

pub(crate) struct RealCloud {
    node: Option<HeldNode>,
    /// Where images are kept, as long as it lives.
    _sftp: SftpServer,
    pub(crate) hosts: Vec<RealHost>,
    pub(crate) ready: Ready,
    mesh: Mesh,
    directory: TempDir,
}

impl RealCloud {
    /// A cloud with so many hosts, one or two, that are connected and have all that virtual
    /// machines need.
    pub(crate) async fn start(hosts: usize) -> Self {
        Self::pinging(hosts, 500).await
    }

    /// The same, with this pause between the node's rounds of pings.
    pub(crate) async fn pinging(hosts: usize, ping_interval_ms: u64) -> Self {
        // Not below TMPDIR, which may be too long for the path of a socket.
        let directory = tempfile::Builder::new().prefix("cairn-").tempdir_in("/tmp");
        let directory = directory.unwrap();
        let [node, agents @ ..] = own_addresses();
        let config = format!(
            "data_directory = '{}'\n[public]\nlisten = '{node}:7070'\n\
             [callback]\nlisten = '{node}:7072'\n\
             [hosts]\nping_interval_ms = {ping_interval_ms}\n",
            directory.path().join("node").display(),
        );
        std::fs::write(directory.path().join("node.toml"), config).unwrap();
        let node = start_node(directory.path(), None).await;
        let mesh = remote(&Access::read(&directory.path().join("node/admin.json")));

        let mut site = Site::of(&mesh, HypervisorType::Kvm).await;
        let pool = directory.path().join("pool");
        let mut added = Vec::new();
        let namespaces: Vec<_> = (0..hosts).map(|_| Namespace::new()).collect();
        match &namespaces[..] {
            [one, two] => one.plug_into(two),
            // Nothing is at the other end.
            others => {
                for only in others {
                    only.ip("link add eth0 type veth peer name far");
                    only.ip("link set eth0 up");
                }
            }
        }
        for (index, namespace) in namespaces.into_iter().enumerate() {
            let address = SocketAddr::new(agents[index], 7443);
            let name = format!("host-{}", index + 1);
            let place = (name.as_str(), address);
            let folders = (directory.path(), &*pool);
            let host = RealHost::add(&mesh, &site.cluster, place, namespace, folders);
            added.push(host.await);
        }
        for host in &added {
            let connected = connected(&mesh, host).await;
            site.hosts.push(connected);
        }
        let recipe = Recipe {
            memory: MEMORY,
            image: Some(image()),
            pool: pool.display().to_string(),
            addresses: ["10.77.0.10", "10.77.0.99", "10.77.0.1"],
            prefix_length: 16,
        };
        let sftp = SftpServer::start().await;
        let place = (&sftp, &*directory.path().join("node"));
        let ready = Ready::by(&mesh, site, recipe, place).await;
        Self {
            node: Some(node),
            _sftp: sftp,
            hosts: added,
            ready,
            mesh,
            directory,
        }
    }

    /// Kills the node, as nothing can be warned of.
    pub(crate) async fn kill_node(&mut self) {
        self.node.take().unwrap().kill().await;
    }

    /// Starts the node, to be held at a place if one is named.
    pub(crate) async fn start_node(&mut self, hold: Option<&str>) {
        self.node = Some(start_node(self.directory.path(), hold).await);
        self.mesh = remote(&Access::read(
            &self.directory.path().join("node/admin.json"),
        ));
    }

    pub(crate) fn node(&mut self) -> &mut HeldNode {
        self.node.as_mut().unwrap()
    }

    pub(crate) fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    pub(crate) fn vms(&self) -> VmInstanceClient {
        VmInstanceClient::new(self.mesh())
    }

    /// Waits until a host is connected, as what it is now.
    pub(crate) async fn connected(&self, host: usize) -> Host {
        connected(&self.mesh, &self.hosts[host]).await
    }

    /// Creates a virtual machine on a host, and waits until it runs.
    pub(crate) async fn create(&self, name: &str, host: usize) -> Guest {
        let request = CreateVmInstanceRequest {
            host_uuid: Some(self.hosts[host].uuid.clone()),
            ..self.ready.vm_request(name)
        };
        let events = self.vms().create_vm_instance(request).await.unwrap();
        let vm = result(events).await.unwrap().uuid;
        let ip = self.address(&vm).await;
        Guest { vm, ip }
    }

    /// The address of a virtual machine's only nic.
    pub(crate) async fn address(&self, vm: &str) -> String {
        let condition = Condition {
            field: "vm_instance_uuid".to_owned(),
            operator: Operator::Eq.into(),
            values: vec![vm.to_owned()],
        };
        let query = Some(Query {
            conditions: vec![condition],
            ..Default::default()
        });
        let nics = VmNicClient::new(self.mesh());
        let found = nics.query_vm_nic(QueryVmNicRequest { query }).await;
        let [nic] = &found.unwrap().vm_nics[..] else {
            panic!("{vm} has another number of nics than one");
        };
        nic.ip.clone()
    }

    pub(crate) async fn stop(&self, vm: &str) {
        let request = StopVmInstanceRequest {
            uuid: vm.to_owned(),
            grace_secs: Some(60),
        };
        let events = self.vms().stop_vm_instance(request).await.unwrap();
        assert_eq!(result(events).await.unwrap().state(), State::Stopped);
    }

    pub(crate) async fn begin(&self, vm: &str) {
        let uuid = vm.to_owned();
        let request = StartVmInstanceRequest { uuid };
        let events = self.vms().start_vm_instance(request).await.unwrap();
        assert_eq!(result(events).await.unwrap().state(), State::Running);
    }

    pub(crate) async fn reboot(&self, vm: &str) {
        let uuid = vm.to_owned();
        let request = RebootVmInstanceRequest { uuid };
        let events = self.vms().reboot_vm_instance(request).await.unwrap();
        assert_eq!(result(events).await.unwrap().state(), State::Running);
    }

    pub(crate) async fn delete(&self, vm: &str) {
        let uuid = vm.to_owned();
        let request = DeleteVmInstanceRequest { uuid };
        let events = self.vms().delete_vm_instance(request).await.unwrap();
        result(events).await.unwrap();
    }

    /// Waits until the node knows a virtual machine in a state, without anyone asking a host.
    pub(crate) async fn seen(&self, vm: &str, state: State) {
        let vms = self.vms();
        let read = async || {
            let uuid = vm.to_owned();
            let found = vms.get_vm_instance(GetVmInstanceRequest { uuid });
            let found: VmInstance = found.await.unwrap().vm_instance.unwrap();
            found.state()
        };
        wait_until(
            &format!("{vm} {state:?}"),
            read,
            |seen| *seen == state,
            LIMIT,
        )
        .await;
    }

    pub(crate) async fn host_seen(&self, host: usize, status: HostStatus) -> Host {
        host_in(&self.mesh, &self.hosts[host].uuid, status).await
    }

    /// That the books of each host say what so many virtual machines take, and that each has just
    /// these.
    pub(crate) async fn assert_books(&self, running: &[u64]) {
        for (index, running) in running.iter().enumerate() {
            let row = self.connected(index).await;
            assert_eq!(
                row.memory_bytes - row.available_memory_bytes,
                running * MEMORY,
                "reserved on host {index}"
            );
            let number = usize::try_from(*running).unwrap();
            assert_eq!(
                self.hosts[index].count(),
                (number, number),
                "processes and taps on host {index}"
            );
        }
    }
}

impl RealCloud {
    /// That the doctor examined every host that has a row, and found nothing.
    pub(crate) async fn assert_sound(&self) {
        let hosts = HostClient::new(self.mesh());
        let rows = hosts.query_host(QueryHostRequest::default()).await;
        let hosts = rows.unwrap().hosts.into_iter().map(|host| host.uuid);
        assert_sound(&self.mesh, &hosts.collect::<Vec<_>>(), &BTreeSet::new()).await;
    }
}

impl Drop for RealCloud {
    /// Whatever a test was about, the doctor has the last word.
    fn drop(&mut self) {
        if !thread::panicking() {
            block_in_place(|| Handle::current().block_on(self.assert_sound()));
        }
    }
}

async fn start_node(directory: &Path, hold: Option<&str>) -> HeldNode {
    HeldNode::start(NODE, &directory.join("node.toml"), hold).await
}

async fn connected(mesh: &Mesh, host: &RealHost) -> Host {
    host_in(mesh, &host.uuid, HostStatus::Connected).await
}

/// The image of the guests, built if it is not there or is old.
fn image() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let image = target.join("guest-image/guest.qcow2");
    let build = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/guest-image/build.sh"
    );
    let built = Command::new(build).arg(&image).status().unwrap();
    assert!(built.success(), "{build}");
    image
}
