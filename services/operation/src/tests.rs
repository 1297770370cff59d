//! Each rpc over a database with an operation that runs until it is cancelled.

use std::sync::Arc;

use cairn_operation::{Ended, Handler, OperationContext, Queue, method};
use cairn_proto::{
    call::Method,
    compute::v1alpha1::{DeleteZoneRequest, DeleteZoneResponse, Zone, ZoneClient},
    event::{Event, OperationResponse as _},
    meta::Catalog,
    operation::v1alpha1::{
        ListQueueRequest, OperationState, QueuedTaskPriority, QueuedTaskState,
        operation_event::Event as Happened, queue_service_server::QueueService as _,
    },
    query::v1alpha1::Query,
};
use cairn_queue::Queues;
use cairn_testkit::{Database, TestDatabase, on_both_databases};
use cairn_types::{AccountUuid, ErrorCode, ZoneUuid};

use super::*;

on_both_databases!(
    it_shows_queries_watches_and_cancels,
    it_names_what_is_wrong_with_a_uuid,
    it_lists_what_runs_and_what_waits,
    it_shows_what_an_operation_called_as_a_tree,
);

struct Delete;

#[async_trait]
impl Handler for Delete {
    type Request = DeleteZoneRequest;
    type Response = DeleteZoneResponse;
    type Spec = String;
    const METHOD: &'static Method = method(ZoneClient::METHODS, "DeleteZone");

    fn check(&self, request: &DeleteZoneRequest) -> Result<String, Fault> {
        Ok(request.uuid.clone())
    }

    fn queue(&self, uuid: &String) -> Queue {
        Queue::serial("zone", uuid)
    }

    async fn run(&self, cx: &OperationContext, _: Arc<String>) -> Result<Ended<Zone>, Fault> {
        Err(cx.cancelled().await)
    }
}

async fn api(place: &TestDatabase) -> (OperationApi, String) {
    let migrations = [cairn_operation::MIGRATIONS, cairn_flow::MIGRATIONS].concat();
    let store = place.open(Catalog::built_in(), &migrations).await;
    let operations = Operations::builder(store.clone(), Queues::default())
        .register(Delete)
        .logs(cairn_flow::TABLES)
        .build();
    let uuid = ZoneUuid::generate().to_string();
    let call = operations.accept::<Delete>(Request::new(DeleteZoneRequest { uuid }));
    let first = call
        .await
        .unwrap()
        .into_inner()
        .next()
        .await
        .unwrap()
        .unwrap();
    let Some(Event::Accepted(accepted)) = first.into_event() else {
        panic!("not accepted");
    };
    (
        OperationApi::new(store, operations),
        accepted.operation_uuid,
    )
}

async fn it_shows_queries_watches_and_cancels(database: Database) {
    let place = TestDatabase::new(database).await;
    let (api, uuid) = api(&place).await;
    let get = || api.get_operation(Request::new(GetOperationRequest { uuid: uuid.clone() }));

    let shown = get().await.unwrap().into_inner();
    assert_eq!(shown.operation.unwrap().state(), OperationState::Accepted);
    assert!(shown.steps.is_empty());

    let query = Some(Query::default());
    let found = api
        .query_operation(Request::new(QueryOperationRequest { query }))
        .await;
    assert_eq!(found.unwrap().into_inner().operations[0].uuid, uuid);

    let watch = WatchOperationRequest {
        uuid: uuid.clone(),
        after: 0,
    };
    let mut events = api
        .watch_operation(Request::new(watch))
        .await
        .unwrap()
        .into_inner();
    let first = events.next().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first.event, Some(Happened::Accepted(_))));

    let cancel = CancelOperationRequest { uuid: uuid.clone() };
    let cancelled = api
        .cancel_operation(Request::new(cancel))
        .await
        .unwrap()
        .into_inner();
    assert!(cancelled.operation.unwrap().cancel_requested);
    let last = events
        .map(Result::unwrap)
        .collect::<Vec<_>>()
        .await
        .pop()
        .unwrap();
    let Some(Happened::Ended(ended)) = last.event.unwrap().event else {
        panic!("no end");
    };
    assert_eq!(ended.state(), OperationState::Cancelled);
    assert_eq!(get().await.unwrap().into_inner().operation, Some(ended));
}

async fn it_lists_what_runs_and_what_waits(database: Database) {
    let place = TestDatabase::new(database).await;
    let (api, runs) = api(&place).await;
    let queues = QueueApi::new(api.operations.clone());
    let list = async |request| queues.list_queue(Request::new(request)).await;
    let all = async |request| list(request).await.unwrap().into_inner();

    let first = all(ListQueueRequest::default()).await.tasks.remove(0);
    let delete = DeleteZoneRequest {
        uuid: first.queue["zone/".len()..].to_owned(),
    };
    let second = api.operations.accept::<Delete>(Request::new(delete)).await;
    let second = second.unwrap().into_inner().next().await;
    let Some(Event::Accepted(second)) = second.unwrap().unwrap().into_event() else {
        panic!("not accepted");
    };
    let found = all(ListQueueRequest::default()).await;
    assert_eq!((found.running, found.waiting), (1, 1));
    let told: Vec<_> = found
        .tasks
        .iter()
        .map(|task| {
            assert_eq!((&*task.name, task.level), ("DeleteZone", 1));
            assert_eq!(task.account_uuid, AccountUuid::ADMIN.to_string());
            assert_eq!(task.priority(), QueuedTaskPriority::Normal);
            assert!(task.since.is_some());
            (task.operation_uuid.clone(), task.state(), task.place)
        })
        .collect();
    let expected = [
        (runs.clone(), QueuedTaskState::Running, 0),
        (second.operation_uuid, QueuedTaskState::Waiting, 1),
    ];
    assert_eq!(told, expected);

    for (request, tasks) in [
        (
            ListQueueRequest {
                limit: 1,
                ..Default::default()
            },
            1,
        ),
        (
            ListQueueRequest {
                queue: "zone/".into(),
                ..Default::default()
            },
            2,
        ),
        (
            ListQueueRequest {
                queue: "host/".into(),
                ..Default::default()
            },
            0,
        ),
        (
            ListQueueRequest {
                operation_uuid: runs,
                ..Default::default()
            },
            2,
        ),
        (
            ListQueueRequest {
                operation_uuid: OperationUuid::generate().to_string(),
                ..Default::default()
            },
            0,
        ),
    ] {
        assert_eq!(all(request.clone()).await.tasks.len(), tasks, "{request:?}");
    }
    let wrong = ListQueueRequest {
        operation_uuid: "east".into(),
        ..Default::default()
    };
    let fault = Fault::from_status(&list(wrong).await.unwrap_err());
    assert_eq!(
        (fault.code, &*fault.fields[0].0),
        (ErrorCode::InvalidArgument, "operation_uuid")
    );
}

async fn it_names_what_is_wrong_with_a_uuid(database: Database) {
    let place = TestDatabase::new(database).await;
    let (api, _) = api(&place).await;
    let unknown = OperationUuid::generate().to_string();
    for (uuid, code) in [
        ("east", ErrorCode::InvalidArgument),
        (&unknown, ErrorCode::NotFound),
    ] {
        let uuid = uuid.to_owned();
        let get = api.get_operation(Request::new(GetOperationRequest { uuid: uuid.clone() }));
        let watch = WatchOperationRequest {
            uuid: uuid.clone(),
            after: 0,
        };
        let watch = api.watch_operation(Request::new(watch));
        let cancel = api.cancel_operation(Request::new(CancelOperationRequest { uuid }));
        let statuses = [
            get.await.err().unwrap(),
            watch.await.err().unwrap(),
            cancel.await.err().unwrap(),
        ];
        for status in statuses {
            let fault = Fault::from_status(&status);
            assert_eq!(fault.code, code);
            if code == ErrorCode::InvalidArgument {
                assert_eq!(fault.fields[0].0, "uuid");
            }
        }
    }
}

/// An operation that another one called; `number` is its place among all.
fn called(number: i64, parent: &str) -> Operation {
    let mut called = Operation {
        uuid: cairn_types::OperationUuid::generate().to_string(),
        name: format!("Call{number}"),
        create_time: Some(prost_types::Timestamp {
            seconds: number,
            nanos: 0,
        }),
        parent_uuid: Some(parent.to_owned()),
        ..Operation::default()
    };
    called.set_state(OperationState::Succeeded);
    called
}

async fn it_shows_what_an_operation_called_as_a_tree(database: Database) {
    let place = TestDatabase::new(database).await;
    let (api, uuid) = api(&place).await;
    let (first, second) = (called(1, &uuid), called(4, &uuid));
    let (below, last) = (called(2, &first.uuid), called(5, &second.uuid));
    let deep = called(3, &below.uuid);
    let mut rows = vec![deep, second.clone(), last, first, below];
    // More than are told, in the last place.
    let parent = rows[2].uuid.clone();
    rows.extend((6..600).map(|number| called(number, &parent)));
    let written = api.store.write(move |tx| {
        let rows = rows.clone();
        Box::pin(async move {
            for row in &rows {
                tx.insert(row).await?;
            }
            Ok::<_, Fault>(())
        })
    });
    written.await.unwrap();
    let get = || GetOperationRequest { uuid: uuid.clone() };
    let shown = api.get_operation(Request::new(get())).await.unwrap();
    let shown = shown.into_inner();
    let tree = shown.children.iter();
    let tree: Vec<_> = tree.map(|it| (it.depth, it.name.as_str())).collect();
    let expected = [
        (0, "Call1"),
        (1, "Call2"),
        (2, "Call3"),
        (0, "Call4"),
        (1, "Call5"),
        (2, "Call6"),
    ];
    assert_eq!(&tree[..6], expected);
    assert!(tree.len() <= 500 && shown.more_children, "{}", tree.len());
}
