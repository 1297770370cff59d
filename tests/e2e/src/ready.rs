//! A cloud that has all that a virtual machine needs.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use cairn_agent_protocol::DhcpLease;
use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::{
        CreateInstanceOfferingRequest, CreateVmInstanceRequest, GetHostRequest, Host, HostClient,
        InstanceOfferingClient, VmInstance, VmInstanceClient,
    },
    event::result,
    fault::Fault,
    network::v1alpha1::{
        AttachL2NetworkToClusterRequest, CreateIpRangeRequest, CreateL2NetworkRequest,
        CreateL3NetworkRequest, IpRangeClient, L2NetworkClient, L2NetworkType, L3NetworkClient,
    },
    query::v1alpha1::{Query, QueryClient, QueryRequest},
    storage::v1alpha1::{
        AttachPrimaryStorageToClusterRequest, BackupStorageClient, BackupStorageType,
        CreateBackupStorageRequest, CreateImageRequest, CreatePrimaryStorageRequest, ImageClient,
        PrimaryStorageCapacity, PrimaryStorageClient, PrimaryStorageType,
    },
};
use prost::Message as _;

use cairn_testkit::SftpServer;

use crate::{Cloud, Site};

/// What virtual machines are made from.
pub struct Ready {
    /// The hosts.
    pub site: Site,
    /// One processor, one GiB.
    pub offering: String,
    /// Two GiB.
    pub image: String,
    /// Where it is.
    pub backup_storage: String,
    /// 1,000 addresses.
    pub l3_network: String,
    /// The storage, on every host.
    pub primary_storage: String,
}

/// The folder of backup storages on the server.
pub const IMAGES: &str = "/srv/cairn";

/// What a backup storage on the server is created from; the server lets the node in.
pub fn backup_storage_request(
    sftp: &SftpServer,
    data_directory: &Path,
) -> CreateBackupStorageRequest {
    let key = std::fs::read_to_string(data_directory.join("ssh.pub")).unwrap();
    sftp.authorize(&key);
    sftp.make_folder(IMAGES);
    CreateBackupStorageRequest {
        name: "images".to_owned(),
        r#type: BackupStorageType::Sftp.into(),
        address: sftp.address(),
        username: "cairn".to_owned(),
        path: IMAGES.to_owned(),
        host_key: sftp.host_key().to_owned(),
        ..Default::default()
    }
}

/// A backup storage on the server.
pub async fn backup_storage(mesh: &Mesh, sftp: &SftpServer, data_directory: &Path) -> String {
    let request = backup_storage_request(sftp, data_directory);
    let storages = BackupStorageClient::new(mesh.clone());
    let made = result(storages.create_backup_storage(request).await.unwrap());
    made.await.unwrap().uuid
}

/// The file of a qcow2 image with a disk of that size, and nothing on it that a guest could use.
#[must_use]
pub fn qcow2(size_bytes: u64) -> Vec<u8> {
    let mut file = b"QFI\xfb\0\0\0\x03".to_vec();
    file.resize(24, 0);
    file.extend(size_bytes.to_be_bytes());
    file.resize(64 << 10, 0);
    file
}

/// An image of that file; without one, of two GiB with nothing on them.
async fn image(mesh: &Mesh, backup_storage: &str, file: Option<&Path>) -> String {
    let mut empty = tempfile::NamedTempFile::new().unwrap();
    empty.write_all(&qcow2(2 << 30)).unwrap();
    let request = CreateImageRequest {
        name: "it".to_owned(),
        url: format!("file://{}", file.unwrap_or(empty.path()).display()),
        backup_storage_uuid: backup_storage.to_owned(),
        ..Default::default()
    };
    let images = ImageClient::new(mesh.clone());
    let made = result(images.create_image(request).await.unwrap());
    made.await.unwrap().uuid
}

/// The memory of a virtual machine of [`Ready::offering`] on simulated hosts.
pub const VM_MEMORY: u64 = 1 << 30;

/// What differs between simulated hosts and others.
pub struct Recipe {
    /// Of a virtual machine, in bytes.
    pub memory: u64,
    /// The file of the image; nothing that a guest could use if there is none.
    pub image: Option<PathBuf>,
    /// The folder of the local storage.
    pub pool: String,
    /// The first and the last address, and the gateway.
    pub addresses: [&'static str; 3],
    /// The length of the prefix that they share.
    pub prefix_length: u32,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            memory: VM_MEMORY,
            image: None,
            pool: "/var/lib/pool".to_owned(),
            addresses: ["10.1.0.10", "10.1.3.250", "10.1.0.1"],
            prefix_length: 16,
        }
    }
}

impl Ready {
    /// Makes everything that virtual machines at a site of simulated hosts need. `place` is where
    /// images are kept, and the node's data directory, for the key that the server lets in.
    pub async fn at(mesh: &Mesh, site: Site, place: (&SftpServer, &Path)) -> Self {
        Self::by(mesh, site, Recipe::default(), place).await
    }

    /// Makes everything that virtual machines at a site need.
    pub async fn by(
        mesh: &Mesh,
        site: Site,
        recipe: Recipe,
        (sftp, data_directory): (&SftpServer, &Path),
    ) -> Self {
        let name = || "it".to_owned();

        let offering = CreateInstanceOfferingRequest {
            name: name(),
            cpu_count: 1,
            memory_bytes: recipe.memory,
            ..Default::default()
        };
        let offerings = InstanceOfferingClient::new(mesh.clone());
        let offering = result(offerings.create_instance_offering(offering).await.unwrap());
        let offering = offering.await.unwrap().uuid;

        let backup_storage = backup_storage(mesh, sftp, data_directory).await;
        let image = image(mesh, &backup_storage, recipe.image.as_deref()).await;

        let storages = PrimaryStorageClient::new(mesh.clone());
        let storage = CreatePrimaryStorageRequest {
            name: name(),
            zone_uuid: site.zone.clone(),
            r#type: PrimaryStorageType::Local.into(),
            path: recipe.pool,
            ..Default::default()
        };
        let storage = result(storages.create_primary_storage(storage).await.unwrap());
        let primary_storage = storage.await.unwrap().uuid;
        let attach = AttachPrimaryStorageToClusterRequest {
            uuid: primary_storage.clone(),
            cluster_uuid: site.cluster.clone(),
        };
        let attached = storages
            .attach_primary_storage_to_cluster(attach)
            .await
            .unwrap();
        result(attached).await.unwrap();

        let networks = L2NetworkClient::new(mesh.clone());
        let l2 = CreateL2NetworkRequest {
            name: name(),
            zone_uuid: site.zone.clone(),
            r#type: L2NetworkType::NoVlan.into(),
            physical_interface: "eth0".into(),
            ..Default::default()
        };
        let l2 = result(networks.create_l2_network(l2).await.unwrap())
            .await
            .unwrap()
            .uuid;
        let attach = AttachL2NetworkToClusterRequest {
            uuid: l2.clone(),
            cluster_uuid: site.cluster.clone(),
        };
        result(networks.attach_l2_network_to_cluster(attach).await.unwrap())
            .await
            .unwrap();
        let l3 = CreateL3NetworkRequest {
            name: name(),
            l2_network_uuid: l2,
            ..Default::default()
        };
        let l3 = result(
            L3NetworkClient::new(mesh.clone())
                .create_l3_network(l3)
                .await
                .unwrap(),
        );
        let l3_network = l3.await.unwrap().uuid;
        let [start, end, gateway] = recipe.addresses;
        let range = CreateIpRangeRequest {
            name: name(),
            l3_network_uuid: l3_network.clone(),
            start_ip: start.into(),
            end_ip: end.into(),
            prefix_length: recipe.prefix_length,
            gateway: gateway.into(),
            ..Default::default()
        };
        result(
            IpRangeClient::new(mesh.clone())
                .create_ip_range(range)
                .await
                .unwrap(),
        )
        .await
        .unwrap();
        Self {
            backup_storage,
            site,
            offering,
            image,
            l3_network,
            primary_storage,
        }
    }

    /// The request for a virtual machine.
    #[must_use]
    pub fn vm_request(&self, name: &str) -> CreateVmInstanceRequest {
        CreateVmInstanceRequest {
            name: name.to_owned(),
            instance_offering_uuid: self.offering.clone(),
            image_uuid: self.image.clone(),
            l3_network_uuids: vec![self.l3_network.clone()],
            ..Default::default()
        }
    }
}

impl Cloud {
    /// Makes everything that virtual machines on so many hosts need.
    pub async fn ready(&self, hosts: usize) -> Ready {
        let (mesh, site) = (self.mesh(), self.site(hosts).await);
        Ready::at(&mesh, site, (&self.sftp, &self.data_directory())).await
    }

    /// Creates a virtual machine and waits until it runs.
    ///
    /// # Errors
    /// What the creation ended with.
    pub async fn create_vm(&self, ready: &Ready, name: &str) -> Result<VmInstance, Fault> {
        let vms = VmInstanceClient::new(self.mesh());
        let created = async { result(vms.create_vm_instance(ready.vm_request(name)).await?).await };
        created.await.map_err(|status| Fault::from_status(&status))
    }

    /// A host as it is now.
    pub async fn host(&self, uuid: &str) -> Host {
        let hosts = HostClient::new(self.mesh());
        hosts
            .get_host(GetHostRequest {
                uuid: uuid.to_owned(),
            })
            .await
            .unwrap()
            .host
            .unwrap()
    }

    /// How many resources of a noun there are.
    pub async fn count(&self, resource: &str) -> u64 {
        let query = Some(Query {
            count: true,
            ..Default::default()
        });
        let request = QueryRequest {
            resource: resource.to_owned(),
            query,
        };
        QueryClient::new(self.mesh())
            .query(request)
            .await
            .unwrap()
            .total
            .unwrap()
    }

    /// That the books say what so many running virtual machines take, and that the hosts have
    /// just these.
    pub async fn assert_books(&self, ready: &Ready, running: u64) {
        let (mut memory, mut cpus) = (0, 0);
        for host in &ready.site.hosts {
            let now = self.host(&host.uuid).await;
            memory += host.available_memory_bytes - now.available_memory_bytes;
            cpus += host.available_cpu_count - now.available_cpu_count;
        }
        assert_eq!(
            (memory, u64::from(cpus)),
            (running * VM_MEMORY, running),
            "reserved on hosts"
        );
        let on_hosts: usize = self
            .simulator
            .hosts()
            .iter()
            .map(|host| host.running().len())
            .sum();
        assert_eq!(on_hosts as u64, running, "virtual machines on hosts");
        let leases: usize = self.leases().values().map(Vec::len).sum();
        // One nic each.
        assert_eq!(leases as u64, running, "addresses served on hosts");
    }

    /// What each host serves by DHCP.
    #[must_use]
    pub fn leases(&self) -> BTreeMap<String, Vec<DhcpLease>> {
        let hosts = self.simulator.hosts().into_iter();
        let hosts = hosts.map(|host| {
            let subnets = host.dhcp.into_values().flat_map(|bridge| bridge.subnets);
            let leases = subnets.flat_map(|subnet| subnet.leases).collect();
            (host.host.to_string(), leases)
        });
        hosts.collect()
    }

    /// That there is nothing of any virtual machine: no row, nothing reserved, nothing on hosts.
    pub async fn assert_empty(&self, ready: &Ready) {
        self.assert_books(ready, 0).await;
        for resource in ["vm-instance", "volume", "vm-nic"] {
            assert_eq!(self.count(resource).await, 0, "{resource}");
        }
        for host in self.simulator.hosts() {
            assert_eq!(
                (host.vms.len(), host.volumes.len()),
                (0, 0),
                "left on a host: {host:?}"
            );
            let mut bridges = host.dhcp.values();
            assert!(
                bridges.all(|bridge| bridge.subnets.is_empty()),
                "served by a host: {host:?}"
            );
        }
        let capacities = Query::default();
        let request = QueryRequest {
            resource: "primary-storage-capacity".to_owned(),
            query: Some(capacities),
        };
        let places = QueryClient::new(self.mesh())
            .query(request)
            .await
            .unwrap()
            .items;
        for place in places {
            let place = PrimaryStorageCapacity::decode(&*place.value).unwrap();
            assert_eq!(
                place.available_bytes, place.total_bytes,
                "reserved on a storage"
            );
        }
    }
}
