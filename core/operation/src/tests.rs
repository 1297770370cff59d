//! A toy handler over zones, whose name tells it what to do, and a database to run it in.

mod accept;
mod queue;
mod recover;
mod run;

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use cairn_proto::{
    call::{Context, Method},
    compute::v1alpha1::{CreateZoneRequest, CreateZoneResponse, Zone, ZoneClient},
    event::{self, Event, OperationResponse as _},
    fault::Fault,
    meta::{Catalog, Resource as _},
    operation::v1alpha1::{Accepted, Operation, operation_event::Event as Happened},
};
use cairn_queue::{Priority, Queues};
use cairn_store::{Migration, Store, create_table_sql};
use cairn_testkit::{Database, TestDatabase, on_both_databases};
use cairn_types::{AccountUuid, ErrorCode, OperationUuid, Uuid};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use super::*;

on_both_databases!(the_tables_fit_the_contract,);

/// What the toy handler and its test share; it outlives a restart.
pub(super) struct Shared {
    /// The names of the runs, in the order in which they started.
    pub(super) started: watch::Sender<Vec<String>>,
    /// The traces that the runs belong to.
    pub(super) traces: Mutex<Vec<Option<Arc<str>>>>,
    /// A run that holds goes on with a permit.
    pub(super) gate: Semaphore,
    /// For the handler to call itself, in the tests that want that: it keeps itself alive so.
    pub(super) operations: OnceLock<Operations>,
}

impl Shared {
    pub(super) async fn wait_started(&self, name: &str, times: usize) {
        let mut started = self.started.subscribe();
        let has = |names: &Vec<String>| names.iter().filter(|n| *n == name).count() >= times;
        started.wait_for(has).await.unwrap();
    }
}

/// Creates zones. The description names the queue; the name what happens: `hold` waits for the
/// gate, `nest` calls itself, `call-b-c` calls into the queue `b`, and that into `c`, `meet-b` after
/// it waited for the gate; `fail`, `panic`, `until-cancelled`, `full`.
struct Create {
    shared: Arc<Shared>,
    limit: Duration,
}

#[async_trait]
impl Handler for Create {
    type Request = CreateZoneRequest;
    type Response = CreateZoneResponse;
    type Spec = CreateZoneRequest;
    const METHOD: &'static Method = method(ZoneClient::METHODS, "CreateZone");

    fn check(&self, request: &CreateZoneRequest) -> Result<CreateZoneRequest, Fault> {
        if request.name.is_empty() {
            return Err(Fault::field("name", "is empty; give 1 to 255 characters"));
        }
        Ok(request.clone())
    }

    fn queue(&self, spec: &CreateZoneRequest) -> Queue {
        let queue = Queue::serial("lane", &spec.description);
        match spec.name.as_str() {
            "full" => queue.most_waiting(1),
            "urgent" => queue.priority(Priority::High),
            _ => queue,
        }
    }

    fn time_limit(&self) -> Duration {
        self.limit
    }

    async fn run(
        &self,
        cx: &OperationContext,
        spec: Arc<CreateZoneRequest>,
    ) -> Result<Ended<Zone>, Fault> {
        let trace = Context::current().traceparent;
        self.shared.traces.lock().unwrap().push(trace);
        self.shared
            .started
            .send_modify(|started| started.push(spec.name.clone()));
        let action = spec.name.split('-').next().unwrap_or_default();
        match action {
            "hold" => {
                cx.progress(50, "holds");
                if let Ok(permit) = self.shared.gate.acquire().await {
                    permit.forget();
                }
            }
            "nest" => {
                let operations = self.shared.operations.get().unwrap();
                let mut context = Context::current();
                context.idempotency_key = Some("inner".into());
                let mut inner = request("hold-inner", &spec.description);
                inner.get_mut().uuid = context.new_key();
                let call = context.scope(operations.accept::<Create>(inner));
                let stream = call.await.map_err(|s| Fault::from_status(&s))?;
                let result = event::result(stream.into_inner()).await;
                result.map_err(|s| Fault::from_status(&s))?;
            }
            "call" | "meet" => {
                if action == "meet"
                    && let Ok(permit) = self.shared.gate.acquire().await
                {
                    permit.forget();
                }
                let mut path = spec.name.splitn(3, '-').skip(1);
                let lane = path.next().unwrap_or_default();
                let name = path
                    .next()
                    .map_or_else(|| "end".to_owned(), |p| format!("call-{p}"));
                let operations = self.shared.operations.get().unwrap();
                let mut context = Context::current();
                context.idempotency_key = Some(format!("{}/called", cx.uuid()).into());
                let mut inner = request(&name, lane);
                inner.get_mut().uuid = context.new_key();
                let call = context.scope(operations.accept::<Create>(inner));
                let stream = call.await.map_err(|s| Fault::from_status(&s))?;
                let result = event::result(stream.into_inner()).await;
                result.map_err(|s| Fault::from_status(&s))?;
            }
            "fail" => {
                let mut fault = Fault::new(ErrorCode::OutOfCapacity, "no host has 4 GiB left");
                fault.causes.push("asked 3 hosts".to_owned());
                return Err(fault.on("zone", &spec.uuid));
            }
            "panic" => panic!("on purpose"),
            "until" => return Err(cx.cancelled().await),
            _ => {}
        }
        let uuid = spec.uuid.clone();
        cx.finish(move |tx| {
            let mut zone = Zone {
                uuid: uuid.clone(),
                name: spec.name.clone(),
                account_uuid: AccountUuid::ADMIN.to_string(),
                ..Zone::default()
            };
            zone.set_state(cairn_proto::compute::v1alpha1::ResourceState::Enabled);
            zone.stamp(time::timestamp(time::now()));
            Box::pin(async move {
                tx.insert(&zone).await?;
                Ok(zone)
            })
        })
        .await
    }
}

pub(super) struct World {
    pub(super) place: TestDatabase,
    pub(super) store: Store,
    pub(super) operations: Operations,
    pub(super) shared: Arc<Shared>,
}

impl World {
    pub(super) async fn new(database: Database) -> Self {
        Self::with_limit(database, Duration::from_secs(600)).await
    }

    pub(super) async fn with_limit(database: Database, limit: Duration) -> Self {
        Self::open(TestDatabase::new(database).await, limit).await
    }

    pub(super) async fn open(place: TestDatabase, limit: Duration) -> Self {
        let store = store(&place).await;
        let shared = Arc::new(Shared {
            started: watch::Sender::default(),
            traces: Mutex::default(),
            gate: Semaphore::new(0),
            operations: OnceLock::new(),
        });
        let handler = Create {
            shared: shared.clone(),
            limit,
        };
        let operations = Operations::builder(store.clone(), Queues::default())
            .register(handler)
            .build();
        Self {
            place,
            store,
            operations,
            shared,
        }
    }

    /// What a process that stops and starts again does, and nothing of the old one is left.
    pub(super) async fn restart(self) -> Self {
        self.operations.shutdown().await;
        self.store.close().await;
        let nested = self.shared.operations.get().is_some();
        let world = Self::open(self.place, Duration::from_secs(600)).await;
        let world = if nested { world.nested() } else { world };
        world.operations.recover().await.unwrap();
        world
    }

    /// Lets the handler call itself.
    pub(super) fn nested(self) -> Self {
        let _ = self.shared.operations.set(self.operations.clone());
        self
    }

    pub(super) async fn accept(&self, name: &str, lane: &str) -> Call {
        self.try_accept(request(name, lane)).await.unwrap()
    }

    pub(super) async fn try_accept(
        &self,
        request: tonic::Request<CreateZoneRequest>,
    ) -> Result<Call, Status> {
        let mut events = self
            .operations
            .accept::<Create>(request)
            .await?
            .into_inner();
        match events.next().await.unwrap()?.into_event() {
            Some(Event::Accepted(accepted)) => Ok(Call { accepted, events }),
            other => panic!("{other:?} before accepted"),
        }
    }

    pub(super) async fn keyed(
        &self,
        key: &str,
        mut request: CreateZoneRequest,
    ) -> Result<Call, Status> {
        let mut context = Context::of(AccountUuid::ADMIN);
        context.idempotency_key = Some(key.into());
        if request.uuid.is_empty() {
            request.uuid = context.new_key();
        }
        context
            .scope(self.try_accept(tonic::Request::new(request)))
            .await
    }

    pub(super) async fn row(&self, uuid: OperationUuid) -> Operation {
        self.store.get(&uuid.to_string()).await.unwrap().unwrap()
    }

    /// The last event of an operation.
    pub(super) async fn end(&self, uuid: OperationUuid) -> Operation {
        let events = self.operations.watch(uuid, 0).await.unwrap();
        let last = events.map(Result::unwrap).collect::<Vec<_>>().await.pop();
        match last.and_then(|event| event.event) {
            Some(Happened::Ended(operation)) => operation,
            other => panic!("{other:?} at the end"),
        }
    }

    pub(super) async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        self.store.rows(&sql, vec![]).await.unwrap()[0]
            .int(0)
            .unwrap()
    }
}

/// An accepted call.
pub(super) struct Call {
    pub(super) accepted: Accepted,
    events: BoxStream<'static, Result<CreateZoneResponse, Status>>,
}

impl Call {
    pub(super) fn uuid(&self) -> OperationUuid {
        self.accepted.operation_uuid.parse().unwrap()
    }

    pub(super) async fn result(self) -> Result<Zone, Fault> {
        let result = event::result(self.events).await;
        result.map_err(|status| Fault::from_status(&status))
    }
}

pub(super) fn request(name: &str, lane: &str) -> tonic::Request<CreateZoneRequest> {
    tonic::Request::new(CreateZoneRequest {
        uuid: Uuid::now_v7().to_string(),
        name: name.to_owned(),
        description: lane.to_owned(),
    })
}

pub(super) async fn store(place: &TestDatabase) -> Store {
    let catalog = Catalog::built_in();
    let zone = create_table_sql(catalog.resource(Zone::NOUN).unwrap());
    let zone = Migration {
        service: "test",
        number: 1,
        name: "zone",
        sql: zone.leak(),
    };
    let migrations: Vec<_> = MIGRATIONS.iter().copied().chain([zone]).collect();
    place.open(catalog, &migrations).await
}

async fn the_tables_fit_the_contract(database: Database) {
    let world = World::new(database).await;
    let problems = world.store.schema_problems().await.unwrap();
    let ours: Vec<_> = problems
        .iter()
        .filter(|p| p.contains("operation"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}
