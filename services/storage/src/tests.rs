//! The area in a mesh of its own, with zones, clusters and hosts that are rows and nothing else.
//! What agents do is the business of suites that have some.

mod backup_files;
mod backup_storages;
mod places;
mod refusals;
mod volumes;

use std::{sync::Arc, time::Duration};

use cairn_agent::{Agents, Options};
use cairn_agent_protocol::PoolSpace;
use cairn_flow::Registry;
use cairn_mesh::LocalMesh;
use cairn_operation::Operations;
use cairn_proto::{
    call::Dispatch,
    compute::v1alpha1::{
        Cluster, ClusterDispatch, Host, HostDispatch, HostStatus, ResourceState, Zone,
    },
    doctor::ext::v1alpha1::InspectionExtensions,
    event::{self, OperationResponse},
    fault::Fault,
    meta::{Catalog, Resource},
    serve::Standard,
    storage::{
        internal::v1alpha1::{AllocateVolumeRequest, ReleaseVolumeRequest, StorageInternalClient},
        v1alpha1::{
            Image, ImageCache, ImageClient, ImageStatus, PrimaryStorage, PrimaryStorageCapacity,
            PrimaryStorageClient, Volume,
        },
    },
};
use cairn_queue::Queues;
use cairn_resource::{Resources, now};
use cairn_sftp::SshKey;
use cairn_testkit::{Database, TestStore, on_both_databases, tables_of};
use cairn_tls::{Ca, Identity};
use cairn_types::{AccountUuid, HostUuid, Uuid};
use futures::stream::BoxStream;
use tempfile::TempDir;
use tonic::Status;

use crate::{MIGRATIONS, Needs, Storage, primary_storage::capacity};

on_both_databases!(the_tables_are_as_the_resources_say,);

const GIB: u64 = 1 << 30;

struct Fixture {
    store: TestStore,
    storages: PrimaryStorageClient,
    images: ImageClient,
    internal: StorageInternalClient,
    inspections: InspectionExtensions,
    zone: String,
    cluster: String,
    area: Storage,
    key: SshKey,
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
        let (mesh, key) = (LocalMesh::new(node), SshKey::generate().unwrap());
        let storage = Storage::new(Needs {
            store: store.clone(),
            mesh: mesh.handle(),
            agents,
            token: mesh.epoch(),
            ssh_key: key.clone(),
            private: directory.path().to_owned(),
            deletion: cairn_resource::DeletionPolicy::Direct,
            expunge_interval: std::time::Duration::from_secs(3_600),
            watch: Duration::from_millis(20),
        });
        let operations = Operations::builder(store.clone(), Queues::default());
        let operations = operations.logs(cairn_flow::TABLES);
        let mut registry = Registry::default();
        storage.steps(&mut registry);
        let mut flows = registry.resolve(None).unwrap();
        let operations = storage.register(operations, &mut flows).unwrap().build();
        let resources = Resources::new(operations, store.clone());
        let mut services = storage.services(&resources);
        services.push(Arc::new(ClusterDispatch(Arc::new(Standard(
            resources.clone(),
        )))));
        services.push(Arc::new(HostDispatch(Arc::new(Standard(resources)))) as Arc<dyn Dispatch>);
        mesh.serve(services, storage.extensions()).unwrap();

        let (zone, cluster) = (uuid(), uuid());
        let fixture = Self {
            store,
            storages: PrimaryStorageClient::new(mesh.handle()),
            images: ImageClient::new(mesh.handle()),
            internal: StorageInternalClient::new(mesh.handle()),
            inspections: InspectionExtensions::new(mesh.handle()),
            zone: zone.clone(),
            cluster: cluster.clone(),
            area: storage,
            key,
            _ca: directory,
        };
        let row = |uuid: &str| Zone {
            uuid: uuid.to_owned(),
            ..Zone::default()
        };
        fixture.insert(row(&zone)).await;
        fixture.cluster(&cluster, &zone).await;
        fixture
    }

    /// The host has a copy of the image.
    async fn cached(&self, image: &Image, storage: &PrimaryStorage, host: HostUuid) {
        self.insert(ImageCache {
            uuid: uuid(),
            image_uuid: image.uuid.clone(),
            primary_storage_uuid: storage.uuid.clone(),
            host_uuid: Some(host.to_string()),
            install_path: "/pool/images/a.qcow2".to_owned(),
            ..ImageCache::default()
        })
        .await;
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

    async fn execute(&self, sql: &'static str) -> u64 {
        let executed = self
            .store
            .write(move |tx| Box::pin(async move { tx.execute(sql, Vec::new()).await }));
        executed.await.unwrap()
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

    async fn storage(&self) -> PrimaryStorage {
        let mut storage = PrimaryStorage {
            uuid: uuid(),
            name: "pool".to_owned(),
            zone_uuid: self.zone.clone(),
            path: "/pool".to_owned(),
            ..PrimaryStorage::default()
        };
        storage.set_state(ResourceState::Enabled);
        self.insert(storage.clone()).await;
        storage
    }

    async fn image(&self, size_bytes: u64) -> Image {
        let mut image = Image {
            uuid: uuid(),
            name: "debian".to_owned(),
            size_bytes,
            ..Image::default()
        };
        image.set_status(ImageStatus::Ready);
        image.set_state(ResourceState::Enabled);
        self.insert(image.clone()).await;
        image
    }

    /// What an agent said.
    async fn learn(&self, storage: &PrimaryStorage, host: HostUuid, total: u64, available: u64) {
        let (storage, cluster) = (storage.clone(), self.cluster.clone());
        let space = PoolSpace {
            total_bytes: total,
            available_bytes: available,
        };
        let learned = self.store.write(move |tx| {
            let (storage, cluster) = (storage.clone(), cluster.clone());
            Box::pin(async move { capacity::learn(tx, &storage, &cluster, host, space).await })
        });
        learned.await.unwrap();
    }

    /// Total and available bytes of the only place there is.
    async fn space(&self) -> (u64, u64) {
        let all = self.store.list::<PrimaryStorageCapacity>("", vec![]).await;
        let all = all.unwrap();
        assert_eq!(all.len(), 1);
        (all[0].total_bytes, all[0].available_bytes)
    }

    fn allocation(&self, image: &Image, host: HostUuid) -> AllocateVolumeRequest {
        AllocateVolumeRequest {
            uuid: uuid(),
            vm_instance_uuid: uuid(),
            name: "root".to_owned(),
            account_uuid: AccountUuid::ADMIN.to_string(),
            image_uuid: image.uuid.clone(),
            host_uuid: host.to_string(),
        }
    }

    async fn allocate(&self, request: AllocateVolumeRequest) -> Result<Volume, Fault> {
        let allocated = self.internal.allocate_volume(request).await;
        let allocated = allocated.map_err(|status| Fault::from_status(&status))?;
        Ok(allocated.volume.unwrap())
    }

    async fn release(&self, volume: &str) -> Result<(), Fault> {
        let request = ReleaseVolumeRequest {
            uuid: volume.to_owned(),
            task_uuid: uuid(),
            operation_uuid: uuid(),
        };
        let released = self.internal.release_volume(request).await;
        released.map_err(|status| Fault::from_status(&status))?;
        Ok(())
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let rows = self.store.rows(&sql, Vec::new()).await.unwrap();
        rows[0].int(0).unwrap()
    }
}

async fn the_tables_are_as_the_resources_say(database: Database) {
    let store = TestStore::new(database, MIGRATIONS).await;
    let mut nouns: Vec<_> = store
        .resources()
        .map(|resource| resource.name.clone())
        .collect();
    nouns.sort();
    let expected = [
        "backup-storage",
        "image",
        "image-cache",
        "primary-storage",
        "primary-storage-attachment",
        "primary-storage-capacity",
        "volume",
    ];
    assert_eq!(nouns, expected);
    assert_eq!(store.schema_problems().await.unwrap(), Vec::<String>::new());
}
