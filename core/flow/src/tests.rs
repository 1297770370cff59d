//! A flow of four toy steps over a fake world outside and a table inside, and a process around it
//! that can be stopped at any point and started again.

mod build;
mod crash;
mod declare;
mod ends;
mod gc;
mod run;
mod shapes;
mod toy;
mod tried;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cairn_operation::{
    At, Ended, Failpoints, Handler, OperationContext, Operations, Point, Queue, Then, method,
};
use cairn_proto::{
    call::{Context, Method},
    compute::v1alpha1::{CreateZoneRequest, CreateZoneResponse, Zone, ZoneClient},
    event,
    fault::Fault,
    meta::Catalog,
    operation::v1alpha1::{Operation, operation_event::Event as Happened},
};
use cairn_queue::Queues;
use cairn_store::{Migration, Store, Tx};
use cairn_testkit::{Database, TestDatabase};
use cairn_types::{AccountUuid, ErrorCode, OperationUuid, TaskUuid};
use futures::StreamExt as _;
use tokio::sync::watch;

use super::*;
use toy::{Noted, Outside, STEPS, Toy};

const ZONE: &str = "cairn.compute.v1alpha1.Zone";
const REQUEST: &str = "cairn.compute.v1alpha1.CreateZoneRequest";

/// How the steps follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// One after the other.
    Line,
    /// The two in the middle at once.
    Group,
    /// The two in the middle are a flow.
    Nested,
    /// The two in the middle at once, the first of them as a flow.
    Both,
}

/// Which flow the process has.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) steps: Vec<&'static str>,
    pub(super) tree: Tree,
    pub(super) options: fn(&str) -> Options,
    /// Hooks that write rows.
    pub(super) hooks: Vec<(When, &'static str)>,
    pub(super) forward_after: Option<&'static str>,
    pub(super) limit: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            steps: STEPS.to_vec(),
            tree: Tree::Line,
            options: |_| Options::default(),
            hooks: Vec::new(),
            forward_after: None,
            limit: Duration::from_secs(600),
        }
    }
}

struct Create {
    flow: Flow,
    limit: Duration,
    outside: Arc<Outside>,
}

#[async_trait]
impl Handler for Create {
    type Request = CreateZoneRequest;
    type Response = CreateZoneResponse;
    type Spec = CreateZoneRequest;
    const METHOD: &'static Method = method(ZoneClient::METHODS, "CreateZone");

    fn check(&self, request: &CreateZoneRequest) -> Result<CreateZoneRequest, Fault> {
        Ok(request.clone())
    }

    fn queue(&self, spec: &CreateZoneRequest) -> Queue {
        Queue::serial("zone", &spec.uuid)
    }

    fn time_limit(&self) -> Duration {
        self.limit
    }

    async fn run(
        &self,
        cx: &OperationContext,
        spec: Arc<CreateZoneRequest>,
    ) -> Result<Ended<Zone>, Fault> {
        let fails = *self.outside.finish_fails.lock().unwrap();
        self.flow
            .run(cx, Bag::of(&*spec), move |_, bag| {
                let result = match bag.get::<Zone>() {
                    Some(zone) if !fails => Ok(zone),
                    _ => Err(Fault::new(ErrorCode::WrongState, "no result")),
                };
                Box::pin(async move { result })
            })
            .await
    }
}

/// A process with the flow.
pub(super) struct World {
    place: TestDatabase,
    pub(super) store: Store,
    pub(super) operations: Operations,
    pub(super) outside: Arc<Outside>,
}

impl World {
    pub(super) async fn new(database: Database) -> Self {
        Self::with(database, Shape::default(), None).await
    }

    pub(super) async fn with(
        database: Database,
        shape: Shape,
        failpoints: Option<Arc<dyn Failpoints>>,
    ) -> Self {
        Self::open(
            TestDatabase::new(database).await,
            Arc::default(),
            shape,
            failpoints,
        )
        .await
    }

    async fn open(
        place: TestDatabase,
        outside: Arc<Outside>,
        shape: Shape,
        failpoints: Option<Arc<dyn Failpoints>>,
    ) -> Self {
        let taken = Migration {
            service: "test",
            number: 1,
            name: "taken",
            sql: "CREATE TABLE taken (operation TEXT NOT NULL, step TEXT NOT NULL, \
                  PRIMARY KEY (operation, step))",
        };
        let migrations = [cairn_operation::MIGRATIONS, MIGRATIONS, &[taken]].concat();
        let store = place.open(Catalog::built_in(), &migrations).await;
        let handler = Create {
            flow: flow(&shape, &outside),
            limit: shape.limit,
            outside: outside.clone(),
        };
        let mut operations = Operations::builder(store.clone(), Queues::default())
            .register(handler)
            .logs(TABLES)
            .leftovers(crate::gc::TABLE);
        if let Some(failpoints) = failpoints {
            operations = operations.failpoints(failpoints);
        }
        Self {
            place,
            store,
            operations: operations.build(),
            outside,
        }
    }

    /// The process dies where it is, and another one with flows of that shape starts.
    pub(super) async fn restart(self, shape: Shape) -> Self {
        self.operations.shutdown().await;
        self.store.close().await;
        let world = Self::open(self.place, self.outside, shape, None).await;
        world.operations.recover().await.unwrap();
        world
    }

    /// The same, with a place where the other process stops.
    pub(super) async fn restart_held(self, hold: Arc<Hold>) -> Self {
        self.operations.shutdown().await;
        self.store.close().await;
        Self::open(self.place, self.outside, Shape::default(), Some(hold)).await
    }

    /// Accepts the one call of this world, or attaches to it.
    pub(super) async fn call(&self) -> (OperationUuid, impl Future<Output = Result<Zone, Fault>>) {
        let mut context = Context::of(AccountUuid::ADMIN);
        context.idempotency_key = Some("the-one".into());
        let request = CreateZoneRequest {
            uuid: context.new_key(),
            ..CreateZoneRequest::default()
        };
        let call = self
            .operations
            .accept::<Create>(tonic::Request::new(request));
        let events = context.scope(call).await.unwrap().into_inner();
        let operation = self
            .store
            .list::<Operation>("uuid <> ''", vec![])
            .await
            .unwrap();
        let uuid = operation[0].uuid.parse().unwrap();
        let result = async move {
            let result = event::result(events).await;
            result.map_err(|status| Fault::from_status(&status))
        };
        (uuid, result)
    }

    pub(super) async fn result(&self) -> Result<Zone, Fault> {
        self.call().await.1.await
    }

    /// The steps whose rows are there.
    pub(super) async fn taken(&self) -> Vec<String> {
        let sql = "SELECT step FROM taken ORDER BY step";
        let rows = self.store.rows(sql, vec![]).await.unwrap();
        rows.iter().map(|row| row.text(0).unwrap()).collect()
    }

    pub(super) async fn assert_nothing_left(&self) {
        assert!(
            self.outside.live.lock().unwrap().is_empty(),
            "something is left outside"
        );
        assert!(self.taken().await.is_empty(), "rows are left");
        self.assert_no_effect_twice();
    }

    pub(super) async fn assert_all_done(&self) {
        assert_eq!(self.taken().await, ["allocate", "record"]);
        let live: Vec<_> = self.outside.live.lock().unwrap().iter().copied().collect();
        assert_eq!(live, ["attach", "prepare"]);
        self.assert_no_effect_twice();
    }

    fn assert_no_effect_twice(&self) {
        let effects = self.outside.effects.lock().unwrap();
        let distinct: HashSet<_> = effects.values().collect();
        assert_eq!(
            distinct.len(),
            effects.len(),
            "an effect under two ids: {effects:?}"
        );
    }

    pub(super) async fn end(&self, uuid: OperationUuid) -> Operation {
        let events = self.operations.watch(uuid, 0).await.unwrap();
        let last = events.map(Result::unwrap).collect::<Vec<_>>().await.pop();
        match last.and_then(|event| event.event) {
            Some(Happened::Ended(operation)) => operation,
            other => panic!("{other:?} at the end"),
        }
    }
}

pub(super) fn flow(shape: &Shape, outside: &Arc<Outside>) -> Flow {
    let retry = Retry {
        attempts: 3,
        first: Duration::ZERO,
        longest: Duration::ZERO,
    };
    let part = |name: &&'static str| {
        let outside = outside.clone();
        Part::from(Toy { name, outside }).with(|_| (shape.options)(name))
    };
    let mut flow = Flow::builder("create-zone").retry(retry);
    let parts: Vec<_> = shape.steps.iter().map(part).collect();
    let inner = |parts: &[Part]| {
        let inner = parts
            .iter()
            .cloned()
            .fold(Flow::builder("inner"), Builder::step);
        Part::flow("inner", &inner.build(&[ZONE]).unwrap())
    };
    let middle = match shape.tree {
        Tree::Line => parts[1..3].to_vec(),
        Tree::Group => vec![Part::group("both", parts[1..3].to_vec())],
        Tree::Nested => vec![inner(&parts[1..3])],
        Tree::Both => vec![Part::group("both", [inner(&parts[1..2]), parts[2].clone()])],
    };
    for part in [&parts[..1], &middle, &parts[3..]].concat() {
        flow = flow.step(part);
    }
    for (when, name) in &shape.hooks {
        let outside = outside.clone();
        flow = flow.hook(*when, Noted { name, outside });
    }
    if let Some(step) = shape.forward_after {
        flow = flow.forward_after(step).unwrap();
    }
    flow.build(&[REQUEST]).unwrap()
}

/// Holds the run at one place, until it is let go or dropped.
pub(super) struct Hold {
    at: (Point, &'static str, &'static str),
    state: watch::Sender<(bool, bool)>,
}

impl Hold {
    pub(super) fn at(point: Point, step: &'static str, direction: Direction) -> Arc<Self> {
        Arc::new(Self {
            at: (point, step, direction.as_str()),
            state: watch::Sender::default(),
        })
    }

    pub(super) async fn reached(&self) {
        self.state
            .subscribe()
            .wait_for(|(reached, _)| *reached)
            .await
            .unwrap();
    }

    pub(super) fn let_go(&self) {
        self.state.send_modify(|(_, free)| *free = true);
    }
}

#[async_trait]
impl Failpoints for Hold {
    async fn at(&self, at: At<'_>) -> Then {
        if (at.point, at.step, at.direction) == self.at {
            self.state.send_modify(|(reached, _)| *reached = true);
            self.state
                .subscribe()
                .wait_for(|(_, free)| *free)
                .await
                .unwrap();
        }
        Then::GoOn
    }
}
