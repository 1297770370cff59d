//! The area in a mesh of its own, with zones, clusters and hosts that are rows and nothing else.
//! What agents do is the business of suites that have some.

mod addresses;
mod attachments;
mod dhcp;
mod nics;

use std::sync::Arc;

use cairn_agent::{Agents, Options};
use cairn_flow::Registry;
use cairn_mesh::LocalMesh;
use cairn_operation::Operations;
use cairn_proto::{
    call::Dispatch,
    compute::v1alpha1::{
        Cluster, ClusterDispatch, Host, HostDispatch, HostStatus, ResourceState, Zone,
    },
    event::{self, OperationResponse},
    fault::Fault,
    meta::{Catalog, Resource},
    network::{
        internal::v1alpha1::{
            AllocateNicRequest, AllocateNicResponse, NetworkInternalClient, ReleaseNicRequest,
        },
        v1alpha1::{
            CreateIpRangeRequest, IpRange, IpRangeClient, L2Network, L2NetworkClient,
            L2NetworkType, L3Network, L3NetworkClient,
        },
    },
    serve::Standard,
};
use cairn_queue::Queues;
use cairn_resource::{Resources, now};
use cairn_testkit::{Database, TestStore, on_both_databases, tables_of};
use cairn_tls::{Ca, Identity};
use cairn_types::{AccountUuid, HostUuid, Uuid};
use futures::stream::BoxStream;
use tempfile::TempDir;
use tonic::Status;

use crate::{MIGRATIONS, Needs, Network};

on_both_databases!(the_tables_are_as_the_resources_say,);

struct Fixture {
    store: TestStore,
    l2: L2NetworkClient,
    l3: L3NetworkClient,
    ranges: IpRangeClient,
    internal: NetworkInternalClient,
    zone: String,
    cluster: String,
    _ca: TempDir,
}

fn uuid() -> String {
    Uuid::now_v7().to_string()
}

/// How a mutating call ended.
async fn ended<M: OperationResponse>(
    call: impl Future<Output = Result<BoxStream<'static, Result<M, Status>>, Status>>,
) -> Result<M::Result, Fault> {
    let ended = async { event::result(call.await?).await };
    ended.await.map_err(|status| Fault::from_status(&status))
}

impl Fixture {
    async fn new(database: Database) -> Self {
        let catalog = Catalog::built_in();
        let foreign = ["zone", "cluster", "host"].map(|noun| &**catalog.resource(noun).unwrap());
        let mut migrations = cairn_operation::MIGRATIONS.to_vec();
        migrations.extend_from_slice(cairn_flow::MIGRATIONS);
        migrations.extend_from_slice(MIGRATIONS);
        migrations.push(tables_of(foreign));
        let store = TestStore::new(database, &migrations).await;

        let directory = tempfile::tempdir().unwrap();
        let (ca, node) = (
            Ca::load_or_create(directory.path()).unwrap(),
            Uuid::now_v7(),
        );
        let credentials = ca.issue(&Identity::Node(node), &[]).unwrap();
        let credentials = credentials.with_ca(ca.pem());
        let agents = Agents::new(Options::new(Vec::new()), &credentials).unwrap();
        let mesh = LocalMesh::new(node);
        let network = Network::new(Needs {
            store: store.clone(),
            mesh: mesh.handle(),
            agents,
            token: mesh.epoch(),
        });
        let mut registry = Registry::default();
        network.steps(&mut registry);
        let mut flows = registry.resolve(None).unwrap();
        let operations = Operations::builder(store.clone(), Queues::default());
        let operations = operations
            .logs(cairn_flow::TABLES)
            .leftovers(cairn_flow::gc::TABLE);
        let operations = network.register(operations, &mut flows).unwrap().build();
        let resources = Resources::new(operations, store.clone());
        let mut services = network.services(&resources);
        services.push(Arc::new(ClusterDispatch(Arc::new(Standard(
            resources.clone(),
        )))));
        services.push(Arc::new(HostDispatch(Arc::new(Standard(resources)))) as Arc<dyn Dispatch>);
        mesh.serve(services, network.extensions()).unwrap();

        let (zone, cluster) = (uuid(), uuid());
        let fixture = Self {
            store,
            l2: L2NetworkClient::new(mesh.handle()),
            l3: L3NetworkClient::new(mesh.handle()),
            ranges: IpRangeClient::new(mesh.handle()),
            internal: NetworkInternalClient::new(mesh.handle()),
            zone: zone.clone(),
            cluster: cluster.clone(),
            _ca: directory,
        };
        let row = Zone {
            uuid: zone.clone(),
            ..Zone::default()
        };
        fixture.insert(row).await;
        fixture.cluster(&cluster, &zone).await;
        fixture
    }

    async fn insert<R: Resource>(&self, mut row: R) {
        *row.account_mut() = AccountUuid::ADMIN.to_string();
        row.stamp(now());
        let inserted = self.store.write(move |tx| {
            let row = row.clone();
            Box::pin(async move { tx.insert(&row).await })
        });
        inserted.await.unwrap();
    }

    async fn cluster(&self, uuid: &str, zone: &str) {
        self.insert(Cluster {
            uuid: uuid.to_owned(),
            zone_uuid: zone.to_owned(),
            ..Cluster::default()
        })
        .await;
    }

    /// A host that is connected, by its row, and whose agent nobody can reach.
    async fn host(&self) -> HostUuid {
        let uuid = HostUuid::generate();
        let mut host = Host {
            uuid: uuid.to_string(),
            cluster_uuid: self.cluster.clone(),
            ..Host::default()
        };
        host.set_status(HostStatus::Connected);
        self.insert(host).await;
        uuid
    }

    async fn l2_network(&self, interface: &str) -> L2Network {
        let mut network = L2Network {
            uuid: uuid(),
            name: "wire".to_owned(),
            zone_uuid: self.zone.clone(),
            physical_interface: interface.to_owned(),
            ..L2Network::default()
        };
        network.set_type(L2NetworkType::NoVlan);
        self.insert(network.clone()).await;
        network
    }

    async fn l3_network(&self, carrier: &L2Network) -> L3Network {
        let mut network = L3Network {
            uuid: uuid(),
            name: "guests".to_owned(),
            l2_network_uuid: carrier.uuid.clone(),
            ..L3Network::default()
        };
        network.set_state(ResourceState::Enabled);
        self.insert(network.clone()).await;
        network
    }

    /// A range in 10.0.0.0/16.
    async fn range(&self, network: &L3Network, start: &str, end: &str) -> Result<IpRange, Fault> {
        let request = CreateIpRangeRequest {
            name: "range".to_owned(),
            l3_network_uuid: network.uuid.clone(),
            start_ip: start.to_owned(),
            end_ip: end.to_owned(),
            prefix_length: 16,
            gateway: "10.0.0.1".to_owned(),
            ..CreateIpRangeRequest::default()
        };
        ended(self.ranges.create_ip_range(request)).await
    }

    fn allocation(&self, network: &L3Network) -> AllocateNicRequest {
        AllocateNicRequest {
            uuid: uuid(),
            vm_instance_uuid: uuid(),
            l3_network_uuid: network.uuid.clone(),
            device_index: 0,
            account_uuid: AccountUuid::ADMIN.to_string(),
        }
    }

    async fn allocate(&self, request: AllocateNicRequest) -> Result<AllocateNicResponse, Fault> {
        let allocated = self.internal.allocate_nic(request).await;
        allocated.map_err(|status| Fault::from_status(&status))
    }

    async fn release(&self, nic: &str) {
        let uuid = nic.to_owned();
        let request = ReleaseNicRequest { uuid };
        self.internal.release_nic(request).await.unwrap();
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let rows = self.store.rows(&sql, Vec::new()).await.unwrap();
        rows[0].int(0).unwrap()
    }

    /// The intervals of free addresses, as text.
    async fn free(&self) -> Vec<(String, String)> {
        let sql = "SELECT first_number, last_number FROM free_address ORDER BY first_number";
        let rows = self.store.rows(sql, Vec::new()).await.unwrap();
        let text = |number: i64| crate::address::text(number.try_into().unwrap());
        let rows = rows.iter();
        rows.map(|row| (text(row.int(0).unwrap()), text(row.int(1).unwrap())))
            .collect()
    }
}

async fn the_tables_are_as_the_resources_say(database: Database) {
    let store = TestStore::new(database, MIGRATIONS).await;
    let resources = store.resources().map(|resource| resource.name.clone());
    let mut nouns: Vec<_> = resources.collect();
    nouns.sort();
    let expected = [
        "ip-range",
        "l2-network",
        "l2-network-attachment",
        "l3-network",
        "vm-nic",
    ];
    assert_eq!(nouns, expected);
    assert_eq!(store.schema_problems().await.unwrap(), Vec::<String>::new());
}
