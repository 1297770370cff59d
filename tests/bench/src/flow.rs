//! What the log of a flow costs at load: the CPU of a flow with it, beside the same transactions
//! without it. Everything is durable in both: SQLite, WAL, `synchronous = FULL`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_flow::{Bag, Flow, Outcome, Step, StepContext};
use cairn_operation::{
    Committed, Ended, Handler, OperationContext, Operations, Queue, Verdict, method,
};
use cairn_proto::{
    call::{Context, Method},
    compute::v1alpha1::{CreateZoneRequest, CreateZoneResponse, Zone, ZoneClient},
    event,
    fault::Fault,
    meta::Catalog,
};
use cairn_queue::Queues;
use cairn_store::{Migration, Tx};
use cairn_testkit::{Database, TestDatabase};
use cairn_types::{AccountUuid, ErrorCode, OperationUuid};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value, json};

use crate::process::cpu_of;

/// The steps, as many as a virtual machine's start has; every other one has an effect outside.
const STEPS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const ROUNDS: usize = 3;

/// What each step does in the database.
async fn work(tx: &mut Tx, operation: OperationUuid, step: &'static str) -> Result<(), Fault> {
    let sql = "INSERT INTO work (operation, step) VALUES (?, ?)";
    tx.execute(sql, vec![operation.into(), step.into()]).await?;
    Ok(())
}

struct Work {
    name: &'static str,
    outside: bool,
}

#[async_trait]
impl Step for Work {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outside(&self) -> bool {
        self.outside
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let (operation, name) = (cx.operation().uuid(), self.name);
        Ok(Outcome::rows(move |tx| {
            Box::pin(async move {
                work(tx, operation, name).await?;
                Ok(Bag::new())
            })
        }))
    }
}

struct Create {
    /// None: the log is off.
    flow: Option<Flow>,
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

    fn queue(&self, request: &CreateZoneRequest) -> Queue {
        Queue::serial("zone", &request.uuid)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<CreateZoneRequest>,
    ) -> Result<Ended<Zone>, Fault> {
        if let Some(flow) = &self.flow {
            let done = flow.run(cx, Bag::of(&*request), |_, _| {
                Box::pin(async { Ok(Zone::default()) })
            });
            return done.await;
        }
        let operation = cx.uuid();
        for step in STEPS {
            let last = STEPS.last() == Some(&step);
            let committed = cx.commit(move |tx| {
                Box::pin(async move {
                    work(tx, operation, step).await?;
                    Ok(match last {
                        true => Verdict::Succeeded(Zone::default().encode_to_vec().into()),
                        false => Verdict::GoOn(()),
                    })
                })
            });
            if let Committed::Ended(ending) = committed.await? {
                return Ended::of(ending);
            }
        }
        Err(Fault::new(ErrorCode::Internal, "it did not end"))
    }
}

/// CPU and time of one flow each, so many of them, `open` at once; the least of several rounds.
async fn measure(flow: Option<Flow>, flows: usize, open: usize) -> (Duration, Duration) {
    let place = TestDatabase::new(Database::Sqlite).await;
    let table = Migration {
        service: "bench",
        number: 1,
        name: "work",
        sql: "CREATE TABLE work (operation TEXT NOT NULL, step TEXT NOT NULL, \
              PRIMARY KEY (operation, step))",
    };
    let migrations = [
        cairn_operation::MIGRATIONS,
        cairn_flow::MIGRATIONS,
        &[table],
    ]
    .concat();
    let store = place.open(Catalog::built_in(), &migrations).await;
    let operations = Operations::builder(store.clone(), Queues::default())
        .register(Create { flow })
        .logs(cairn_flow::TABLES)
        .build();
    let call = async || {
        let context = Context::of(AccountUuid::ADMIN);
        let request = CreateZoneRequest {
            uuid: context.new_key(),
            ..Default::default()
        };
        let accepted = operations.accept::<Create>(tonic::Request::new(request));
        let events = context.scope(accepted).await.unwrap().into_inner();
        event::result(events).await.unwrap();
    };
    let mut least = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (cpu, began) = (cpu_of("self"), std::time::Instant::now());
        let calls = stream::iter(0..flows).map(|_| call());
        calls.buffer_unordered(open).for_each(async |()| {}).await;
        least.0 = least.0.min(cpu_of("self") - cpu);
        least.1 = least.1.min(began.elapsed());
    }
    operations.shutdown().await;
    store.close().await;
    let flows = u32::try_from(flows).unwrap();
    (least.0 / flows, least.1 / flows)
}

pub(crate) async fn run(flows: usize, open: usize) -> Value {
    let steps = STEPS.iter().enumerate().map(|(index, name)| Work {
        name,
        outside: index % 2 == 1,
    });
    let flow = steps.fold(Flow::builder("bench"), |flow, step| flow.step(step));
    let flow = flow
        .build(&["cairn.compute.v1alpha1.CreateZoneRequest"])
        .unwrap();
    let (off_cpu, off_time) = measure(None, flows, open).await;
    let (on_cpu, on_time) = measure(Some(flow), flows, open).await;
    let micros = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
    json!({
        "cpu_us_per_flow": micros(on_cpu),
        "cpu_us_per_flow_without_log": micros(off_cpu),
        "ratio": (on_cpu.as_secs_f64() / off_cpu.as_secs_f64() * 100.0).round() / 100.0,
        "flows_per_s": (1.0 / on_time.as_secs_f64()).round(),
        "flows_per_s_without_log": (1.0 / off_time.as_secs_f64()).round(),
        "steps": STEPS.len(),
        "durable": "SQLite, WAL, synchronous=FULL, a commit a boundary, shared among flows",
    })
}
