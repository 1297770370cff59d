//! A node, simulated hosts, and everything that virtual machines on them need.

use std::path::Path;

use cairn_agent_protocol::Enrollment;
use cairn_e2e::{Access, Ready, Recipe, Site, create_host, enroll_host, host_in, remote};
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::HostStatus,
    event::result,
    network::v1alpha1::{CreateIpRangeRequest, IpRangeClient},
};
use cairn_testkit::SftpServer;
use serde_json::json;
use tempfile::TempDir;

use crate::process::{Process, node_config};

/// How many virtual machines a range has addresses for. A range has 65,536 at most.
const VMS_OF_A_RANGE: usize = 60_000;

/// A cloud in processes of its own.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    pub(crate) node: Process,
    pub(crate) simulator: Process,
    pub(crate) access: Access,
    pub(crate) mesh: Mesh,
    pub(crate) ready: Ready,
    _sftp: SftpServer,
}

impl Running {
    /// Starts a node on a database, SQLite if none is named, with so many hosts for so many virtual
    /// machines of so many bytes of memory each.
    pub(crate) async fn start(
        hosts: usize,
        vms: usize,
        memory: u64,
        database: Option<&str>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = node_config(folder.path(), database);
        let node = Process::start("node", config).await;
        let mut simulator = Process::start("simulator", folder.path().join("agents")).await;
        let access = Access::read(&folder.path().join("node/admin.json"));
        let mesh = remote(&access);

        let mut site = Site::empty(&mesh).await;
        for number in 0..hosts {
            let name = format!("host-{number}");
            let host = create_host(&mesh, &site.cluster, &name, simulator.address).await;
            let added = simulator.ask(json!({ "add-host": { "host": host } })).await;
            let request = added["csr"].as_str().unwrap().to_owned();
            let Enrollment {
                certificate,
                ca_certificate,
                callback_addresses,
            } = enroll_host(&mesh, host, request).await;
            let install = json!({ "install": {
                "host": host,
                "certificate": certificate,
                "caCertificate": ca_certificate,
                "callbackAddresses": callback_addresses,
            }});
            simulator.ask(install).await;
            let connected = host_in(&mesh, &host.to_string(), HostStatus::Connected).await;
            site.hosts.push(connected);
        }
        let recipe = Recipe {
            memory,
            // Also for each host, which serves from one of its own.
            addresses: ["10.1.0.10", "10.1.250.250", "10.1.0.1"],
            ..Recipe::default()
        };
        let sftp = SftpServer::start().await;
        let place: (_, &Path) = (&sftp, &folder.path().join("node"));
        let ready = Ready::by(&mesh, site, recipe, place).await;
        for number in 2..=1 + vms / VMS_OF_A_RANGE {
            add_range(&mesh, &ready, number).await;
        }
        Self {
            folder,
            node,
            simulator,
            access,
            mesh,
            ready,
            _sftp: sftp,
        }
    }
}

/// Gives the network another range of addresses.
async fn add_range(mesh: &Mesh, ready: &Ready, number: usize) {
    let request = CreateIpRangeRequest {
        name: format!("range-{number}"),
        l3_network_uuid: ready.l3_network.clone(),
        start_ip: format!("10.{number}.0.10"),
        end_ip: format!("10.{number}.250.250"),
        prefix_length: 16,
        gateway: format!("10.{number}.0.1"),
        ..Default::default()
    };
    let ranges = IpRangeClient::new(mesh.clone());
    let made = result(ranges.create_ip_range(request).await.unwrap());
    made.await.unwrap();
}
