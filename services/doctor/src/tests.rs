//! An examination among services that say what a test wants, of hosts that are rows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use cairn_agent::{Agents, Options};
use cairn_agent_protocol::HostInventory;
use cairn_inspect::{Depot, Inspect, Place, Suspect, extension};
use cairn_mesh::LocalMesh;
use cairn_operation::Operations;
use cairn_proto::{
    compute::v1alpha1::{Cluster, Host, HostDispatch, HostStatus, Zone},
    doctor::v1alpha1::{DoctorClient, ExamineResponse, Problem},
    fault::Fault,
    meta::{Catalog, Resource},
    operation::v1alpha1::{
        CancelOperationRequest, CancelOperationResponse, GetOperationRequest, GetOperationResponse,
        Operation, OperationDispatch, OperationState, QueryOperationRequest,
        QueryOperationResponse, WatchOperationRequest, WatchOperationResponse,
        operation_service_server::OperationService,
    },
    serve::Standard,
};
use cairn_query::query_as;
use cairn_queue::Queues;
use cairn_resource::{Resources, now};
use cairn_testkit::{Database, TestStore, on_both_databases, tables_of};
use cairn_tls::{Ca, Identity};
use cairn_types::{AccountUuid, ErrorCode, Uuid};
use futures::stream::BoxStream;
use tempfile::TempDir;
use tonic::{Request, Response};

use super::*;

on_both_databases!(
    what_nobody_is_at_is_told,
    what_is_at_rest_for_one_look_only_is_not_told,
    a_host_that_cannot_be_asked_is_listed,
    what_is_in_a_depot_is_told_and_one_that_cannot_be_asked_is_listed,
    a_reference_to_nothing_is_found,
    what_a_request_names_must_be_there,
);

/// Says of the books what it is told to, look by look; the last stays.
#[derive(Default)]
struct Says {
    looks: AtomicU32,
    suspects: Mutex<Vec<Vec<Suspect>>>,
    /// Of depots, by their uuids.
    depots: Mutex<BTreeMap<String, Result<Vec<Suspect>, Fault>>>,
}

struct Part(Arc<Says>);

#[async_trait]
impl Inspect for Part {
    async fn host(&self, _: &Place, _: &HostInventory) -> Result<Vec<Suspect>, Fault> {
        Ok(Vec::new())
    }

    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        let look = self.0.looks.fetch_add(1, Ordering::SeqCst) as usize;
        let looks = self.0.suspects.lock().unwrap();
        let said = looks.get(look).or(looks.last());
        Ok(said.cloned().unwrap_or_default())
    }

    async fn depots(&self) -> Result<Vec<Depot>, Fault> {
        let depots = self.0.depots.lock().unwrap();
        Ok(depots.keys().map(|uuid| depot(uuid)).collect())
    }

    async fn depot(&self, depot: &Depot) -> Result<Vec<Suspect>, Fault> {
        let depots = self.0.depots.lock().unwrap();
        depots.get(&depot.uuid).cloned().unwrap_or(Ok(Vec::new()))
    }
}

fn depot(uuid: &str) -> Depot {
    Depot {
        noun: "backup-storage".to_owned(),
        uuid: uuid.to_owned(),
    }
}

/// Operations that are rows and nothing else.
struct Rows(Store);

#[async_trait]
impl OperationService for Rows {
    type WatchOperationStream = BoxStream<'static, Result<WatchOperationResponse, Status>>;

    async fn query_operation(
        &self,
        request: Request<QueryOperationRequest>,
    ) -> Result<Response<QueryOperationResponse>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let (operations, total) = query_as(&self.0, &query).await.map_err(Fault::from)?;
        Ok(Response::new(QueryOperationResponse { operations, total }))
    }

    async fn get_operation(
        &self,
        _: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        Err(Status::unimplemented("get"))
    }

    async fn watch_operation(
        &self,
        _: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        Err(Status::unimplemented("watch"))
    }

    async fn cancel_operation(
        &self,
        _: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        Err(Status::unimplemented("cancel"))
    }
}

struct Fixture {
    store: TestStore,
    doctor: DoctorClient,
    says: Arc<Says>,
    _ca: TempDir,
}

fn uuid() -> String {
    Uuid::now_v7().to_string()
}

impl Fixture {
    async fn new(database: Database) -> Self {
        let catalog = Catalog::built_in();
        let foreign = ["zone", "cluster", "host"].map(|noun| &**catalog.resource(noun).unwrap());
        let mut migrations = cairn_operation::MIGRATIONS.to_vec();
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
        let doctor = Doctor::new(Needs {
            store: store.clone(),
            mesh: mesh.handle(),
            agents,
            token: mesh.epoch(),
        });
        let operations = Operations::builder(store.clone(), Queues::default()).build();
        let resources = Resources::new(operations, store.clone());
        let mut services = doctor.services(&resources);
        services.push(Arc::new(HostDispatch(Arc::new(Standard(resources)))));
        let rows = Rows(store.clone());
        services.push(Arc::new(OperationDispatch(Arc::new(rows))));
        let says = Arc::new(Says::default());
        let mut extensions = doctor.extensions();
        extensions.push(extension("test", Part(Arc::clone(&says))));
        mesh.serve(services, extensions).unwrap();
        Self {
            store,
            doctor: DoctorClient::new(mesh.handle()),
            says,
            _ca: directory,
        }
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

    async fn host(&self, status: HostStatus) -> String {
        let (zone, cluster, host) = (uuid(), uuid(), uuid());
        self.insert(Zone {
            uuid: zone.clone(),
            ..Zone::default()
        })
        .await;
        self.insert(Cluster {
            uuid: cluster.clone(),
            zone_uuid: zone.clone(),
            ..Cluster::default()
        })
        .await;
        let mut row = Host {
            uuid: host.clone(),
            cluster_uuid: cluster,
            zone_uuid: zone,
            ..Host::default()
        };
        row.set_status(status);
        self.insert(row).await;
        host
    }

    async fn operation(&self, resource: &str, state: OperationState) {
        let mut operation = Operation {
            uuid: uuid(),
            resource_uuid: resource.to_owned(),
            deadline: Some(now()),
            ..Operation::default()
        };
        operation.set_state(state);
        if state != OperationState::Accepted {
            operation.end_time = Some(now());
        }
        self.insert(operation).await;
    }

    fn say(&self, looks: &[&[Suspect]]) {
        self.says.looks.store(0, Ordering::SeqCst);
        let looks = looks.iter().map(|look| look.to_vec());
        *self.says.suspects.lock().unwrap() = looks.collect();
    }

    async fn examine(&self, request: ExamineRequest) -> Result<ExamineResponse, Fault> {
        let examined = self.doctor.examine(request).await;
        examined.map_err(|status| Fault::from_status(&status))
    }

    async fn all(&self) -> ExamineResponse {
        self.examine(ExamineRequest::default()).await.unwrap()
    }
}

async fn what_nobody_is_at_is_told(database: Database) {
    let cloud = Fixture::new(database).await;
    let [idle, busy, done, concerned] = [(); 4].map(|()| uuid());
    cloud.operation(&busy, OperationState::Accepted).await;
    cloud.operation(&concerned, OperationState::Accepted).await;
    // It ended before anyone looked.
    cloud.operation(&done, OperationState::Succeeded).await;
    let of = |uuid: &str| Suspect::extra("thing", uuid, "seen").of("zone", uuid);
    let suspects = [
        of(&idle),
        of(&busy),
        of(&done),
        of("x").concerns(&concerned),
    ];
    cloud.say(&[&suspects]);
    let examined = cloud.all().await;
    let told: Vec<_> = examined.findings.iter().map(|it| &it.owner_uuid).collect();
    let mut expected = [&idle, &done];
    expected.sort();
    assert_eq!(told, expected, "{examined:?}");
    assert_eq!(examined.unjudged_count, 2);
    assert_eq!(examined.findings[0].problem(), Problem::Extra);
}

async fn what_is_at_rest_for_one_look_only_is_not_told(database: Database) {
    let cloud = Fixture::new(database).await;
    let seen = |detail: &str| Suspect::extra("thing", "it", detail);
    // Gone by the second look; there in both, but otherwise; the same in both.
    for (looks, told) in [
        ([vec![seen("a")], vec![]], 0),
        ([vec![seen("a")], vec![seen("b")]], 0),
        ([vec![seen("a")], vec![seen("a")]], 1),
        ([vec![], vec![seen("a")]], 0),
    ] {
        cloud.say(&[&looks[0], &looks[1]]);
        assert_eq!(cloud.all().await.findings.len(), told, "{looks:?}");
    }
}

async fn a_host_that_cannot_be_asked_is_listed(database: Database) {
    let cloud = Fixture::new(database).await;
    let away = cloud.host(HostStatus::Disconnected).await;
    // By its row; it has no address.
    let silent = cloud.host(HostStatus::Connected).await;
    let examined = cloud.all().await;
    let listed: Vec<_> = examined
        .unexamined_hosts
        .iter()
        .map(|it| (&it.host_uuid, &*it.reason))
        .collect();
    assert_eq!(listed[0], (&away, "the host is Disconnected"));
    assert_eq!(listed[1].0, &silent);
    assert_eq!(examined.examined_host_count, 0);
    let request = ExamineRequest {
        host_uuid: Some(away.clone()),
        ..ExamineRequest::default()
    };
    let one = cloud.examine(request).await.unwrap();
    assert_eq!(one.unexamined_hosts.len(), 1);
}

async fn what_is_in_a_depot_is_told_and_one_that_cannot_be_asked_is_listed(database: Database) {
    let cloud = Fixture::new(database).await;
    let [sound, full, busy, away] = [(); 4].map(|()| uuid());
    let seen = |detail: &str| Suspect::extra("thing", "it", detail);
    let fault = Fault::new(ErrorCode::Unavailable, "it is away");
    let says = [
        (&sound, Ok(Vec::new())),
        (&full, Ok(vec![seen("a")])),
        (&busy, Ok(vec![seen("b")])),
        (&away, Err(fault)),
    ];
    let says = says.map(|(uuid, says)| (uuid.clone(), says)).into();
    *cloud.says.depots.lock().unwrap() = says;
    // Whatever is found in a depot that an operation is at may be under way.
    cloud.operation(&busy, OperationState::Accepted).await;
    cloud.say(&[&[seen("of the books")]]);
    let examined = cloud.all().await;
    let told: Vec<_> = examined
        .findings
        .iter()
        .map(|it| (&*it.depot_type, &*it.depot_uuid, &*it.detail))
        .collect();
    let expected = [("", "", "of the books"), ("backup-storage", &*full, "a")];
    assert_eq!(told, expected, "{examined:?}");
    // Nobody owns it: it is fixed in the queue of its depot.
    let finding = &examined.findings[1];
    let queue = (&*finding.queue_type, &finding.queue_uuid);
    assert_eq!(queue, ("backup-storage", &full));
    assert_eq!(examined.unjudged_count, 1);
    assert_eq!(examined.examined_depot_count, 3);
    assert_eq!(examined.examined_host_count, 0);
    let [unexamined] = &*examined.unexamined_depots else {
        panic!("{examined:?}");
    };
    assert_eq!(unexamined.depot_uuid, away);
    assert_eq!(unexamined.reason, "test: it is away");

    // Who names a host wants to hear of that.
    let host = cloud.host(HostStatus::Disconnected).await;
    let request = ExamineRequest {
        host_uuid: Some(host),
        ..ExamineRequest::default()
    };
    let one = cloud.examine(request).await.unwrap();
    assert_eq!((one.findings, one.unexamined_depots), (vec![], vec![]));
    assert_eq!(one.examined_depot_count, 0);
}

async fn a_reference_to_nothing_is_found(database: Database) {
    let cloud = Fixture::new(database).await;
    let host = cloud.host(HostStatus::Disconnected).await;
    assert_eq!(cloud.all().await.findings, []);
    let row = cloud.store.get::<Host>(&host).await.unwrap().unwrap();
    let zone = row.zone_uuid.clone();
    let gone = cloud.store.write(move |tx| {
        let zone = zone.clone();
        Box::pin(async move { tx.delete::<Zone>(&zone).await })
    });
    gone.await.unwrap();
    let found = cloud.all().await.findings;
    let told: Vec<_> = found
        .iter()
        .map(|it| (&*it.kind, &*it.owner_type))
        .collect();
    assert_eq!(
        told,
        [("reference", "cluster"), ("reference", "host")].map(|it| it),
        "{found:?}"
    );
}

async fn what_a_request_names_must_be_there(database: Database) {
    let cloud = Fixture::new(database).await;
    let host = |host: &str| ExamineRequest {
        host_uuid: Some(host.to_owned()),
        ..ExamineRequest::default()
    };
    let wrong = cloud.examine(host("web")).await.unwrap_err();
    assert_eq!(wrong.fields[0].0, "host_uuid");
    let absent = uuid();
    let wrong = cloud.examine(host(&absent)).await.unwrap_err();
    assert_eq!(wrong, Fault::not_found("host", &absent));
}
