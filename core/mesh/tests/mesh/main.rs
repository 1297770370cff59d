//! The mesh as services and clients meet it: what an in-process call promises, and what the
//! public door lets through.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod extensions;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_mesh::{
    LocalMesh, Mesh,
    door::{Authenticator, CallLimits, Door, Unauthenticated},
};
use cairn_proto::{
    call::Context,
    compute::v1alpha1::{
        CreateZoneRequest, CreateZoneResponse, DeleteZoneRequest, DeleteZoneResponse,
        GetZoneRequest, GetZoneResponse, QueryZoneRequest, QueryZoneResponse, UpdateZoneRequest,
        UpdateZoneResponse, Zone, ZoneClient, ZoneDispatch, zone_service_client::ZoneServiceClient,
        zone_service_server::ZoneService,
    },
    fault::Fault,
    meta::Catalog,
};
use cairn_types::{AccountUuid, ErrorCode, Uuid};
use futures::{StreamExt as _, stream::BoxStream};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue};

/// Behaves as the uuid of the request says.
struct Toy {
    mesh: Mesh,
    dropped: Arc<AtomicUsize>,
}

type Events<M> = BoxStream<'static, Result<M, Status>>;

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ZoneService for Toy {
    type CreateZoneStream = Events<CreateZoneResponse>;
    type UpdateZoneStream = Events<UpdateZoneResponse>;
    type DeleteZoneStream = Events<DeleteZoneResponse>;

    async fn create_zone(
        &self,
        request: Request<CreateZoneRequest>,
    ) -> Result<Response<Self::CreateZoneStream>, Status> {
        // Answers with what it was given, so that a test sees the key and the context.
        let context = Context::current();
        let zone = Zone {
            uuid: request.into_inner().uuid,
            account_uuid: context.account.to_string(),
            description: format!("{:?}", context.idempotency_key),
            ..Default::default()
        };
        use cairn_proto::event::{Event, OperationResponse as _};
        let events = [Ok(CreateZoneResponse::from_event(Event::Result(zone)))];
        Ok(Response::new(futures::stream::iter(events).boxed()))
    }

    async fn get_zone(
        &self,
        request: Request<GetZoneRequest>,
    ) -> Result<Response<GetZoneResponse>, Status> {
        let _running = CountDrop(Arc::clone(&self.dropped));
        let uuid = request.into_inner().uuid;
        if let Some(depth) = uuid.strip_prefix("nest-") {
            let depth: u32 = depth.parse().unwrap();
            if depth > 0 {
                let uuid = format!("nest-{}", depth - 1);
                let inner = ZoneClient::new(self.mesh.clone())
                    .get_zone(GetZoneRequest { uuid })
                    .await?;
                return Ok(Response::new(inner));
            }
        }
        match uuid.as_str() {
            "panic" => panic!("as asked"),
            "hang" => std::future::pending().await,
            "fail" => Err(Fault::not_found("zone", "fail").into()),
            _ => Ok(Response::new(GetZoneResponse {
                zone: Some(Zone {
                    uuid,
                    ..Default::default()
                }),
            })),
        }
    }

    async fn query_zone(
        &self,
        _: Request<QueryZoneRequest>,
    ) -> Result<Response<QueryZoneResponse>, Status> {
        Ok(Response::new(QueryZoneResponse::default()))
    }

    async fn update_zone(
        &self,
        _: Request<UpdateZoneRequest>,
    ) -> Result<Response<Self::UpdateZoneStream>, Status> {
        // A stream that never gets to its end.
        Ok(Response::new(futures::stream::pending().boxed()))
    }

    async fn delete_zone(
        &self,
        _: Request<DeleteZoneRequest>,
    ) -> Result<Response<Self::DeleteZoneStream>, Status> {
        let events = futures::stream::poll_fn(|_| panic!("in the stream"));
        Ok(Response::new(events.boxed()))
    }
}

fn mesh() -> (LocalMesh, Arc<AtomicUsize>) {
    let mesh = LocalMesh::new(Uuid::now_v7());
    let dropped = Arc::new(AtomicUsize::new(0));
    let toy = Toy {
        mesh: mesh.handle(),
        dropped: Arc::clone(&dropped),
    };
    mesh.serve(vec![Arc::new(ZoneDispatch(Arc::new(toy)))], vec![])
        .unwrap();
    (mesh, dropped)
}

fn get(uuid: &str) -> GetZoneRequest {
    GetZoneRequest {
        uuid: uuid.to_owned(),
    }
}

#[tokio::test]
async fn a_call_reaches_its_service_and_errors_come_back_whole() {
    let zones = ZoneClient::new(mesh().0.handle());
    assert_eq!(
        zones.get_zone(get("z")).await.unwrap().zone.unwrap().uuid,
        "z"
    );
    let refused = Fault::from_status(&zones.get_zone(get("fail")).await.unwrap_err());
    assert_eq!(refused.resource, Some(("zone".into(), "fail".into())));
}

#[tokio::test]
async fn a_panic_is_an_error_of_that_call_only() {
    let zones = ZoneClient::new(mesh().0.handle());
    assert_eq!(
        zones.get_zone(get("panic")).await.unwrap_err().code(),
        Code::Internal
    );
    let mut events = zones
        .delete_zone(DeleteZoneRequest::default())
        .await
        .unwrap();
    assert_eq!(
        events.next().await.unwrap().unwrap_err().code(),
        Code::Internal
    );
    assert!(events.next().await.is_none());
    assert!(zones.get_zone(get("z")).await.is_ok());
}

#[tokio::test]
async fn calls_nested_deeply_do_not_exhaust_the_stack() {
    let zones = ZoneClient::new(mesh().0.handle());
    assert!(zones.get_zone(get("nest-2000")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_in_process_and_drops_the_handler() {
    let (mesh, dropped) = mesh();
    let zones = ZoneClient::new(mesh.handle());
    let mut context = Context::of(AccountUuid::ADMIN);
    context.deadline = Some(Instant::now() + Duration::from_secs(5));
    let refused = context
        .clone()
        .scope(zones.get_zone(get("hang")))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);

    let events = context
        .scope(zones.update_zone(UpdateZoneRequest::default()))
        .await;
    let mut events = events.unwrap();
    assert_eq!(
        events.next().await.unwrap().unwrap_err().code(),
        Code::DeadlineExceeded
    );
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler_also_deep_down() {
    let (mesh, dropped) = mesh();
    let zones = ZoneClient::new(mesh.handle());
    let mut call = Box::pin(zones.get_zone(get("hang")));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

struct OneToken;

#[async_trait]
impl Authenticator for OneToken {
    async fn authenticate(&self, token: &str) -> Result<AccountUuid, Unauthenticated> {
        if token == "right" {
            Ok(AccountUuid::ADMIN)
        } else {
            Err(Unauthenticated::Unknown)
        }
    }
}

fn router() -> axum::Router {
    router_with(CallLimits::new(100, 100))
}

fn router_with(limits: CallLimits) -> axum::Router {
    let (mesh, _) = mesh();
    let door = Door {
        mesh: mesh.handle(),
        methods: mesh.methods().collect(),
        authenticator: Arc::new(OneToken),
        descriptors: Catalog::built_in().pool().clone(),
        metrics: || "cairn_up 1\n".to_owned(),
        limits,
    };
    door.router().0
}

fn bearer<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}")
        .parse::<MetadataValue<_>>()
        .unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn the_door_serves_tonics_own_client_and_names_the_caller() {
    let mut zones = ZoneServiceClient::new(router());
    let zone = zones
        .get_zone(bearer("right", get("z")))
        .await
        .unwrap()
        .into_inner()
        .zone;
    assert_eq!(zone.unwrap().uuid, "z");

    let refused = zones.get_zone(bearer("wrong", get("z"))).await.unwrap_err();
    assert_eq!(
        Fault::from_status(&refused).code,
        ErrorCode::Unauthenticated
    );
    let refused = zones.get_zone(get("z")).await.unwrap_err();
    assert_eq!(
        Fault::from_status(&refused).code,
        ErrorCode::Unauthenticated
    );
    let fault = zones
        .get_zone(bearer("right", get("fail")))
        .await
        .unwrap_err();
    assert_eq!(Fault::from_status(&fault).code, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_is_past_a_cap_is_refused_until_a_call_has_ended() {
    for (limits, cap) in [
        (
            CallLimits::new(1, 9),
            "1 calls of all accounts (limits.calls)",
        ),
        (
            CallLimits::new(9, 1),
            "1 calls of one account (limits.calls_per_account)",
        ),
    ] {
        let router = router_with(limits);
        let mut zones = ZoneServiceClient::new(router.clone());
        let mut others = ZoneServiceClient::new(router);
        let mut refused = async || {
            let status = others.get_zone(bearer("right", get("z"))).await.err()?;
            let fault = Fault::from_status(&status);
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(fault.code, ErrorCode::Overloaded);
            assert_eq!(fault.retry_after, Some(Duration::from_secs(1)));
            assert!(fault.message.starts_with(cap), "{}", fault.message);
            Some(fault)
        };
        let mut hangs = Box::pin(zones.get_zone(bearer("right", get("hang"))));
        assert!(futures::poll!(&mut hangs).is_pending());
        assert!(refused().await.is_some());
        drop(hangs);
        assert!(refused().await.is_none());
        // A stream is open until it is let go.
        let stream = zones
            .update_zone(bearer("right", UpdateZoneRequest::default()))
            .await;
        assert!(refused().await.is_some());
        drop(stream);
        assert!(refused().await.is_none());
    }
}

#[tokio::test]
async fn the_door_assigns_keys_and_an_idempotency_key_decides_them() {
    let mut zones = ZoneServiceClient::new(router());
    let mut create = async |key: Option<&'static str>, uuid: &str| {
        let create = CreateZoneRequest {
            uuid: uuid.to_owned(),
            ..Default::default()
        };
        let mut request = bearer("right", create);
        if let Some(key) = key {
            request
                .metadata_mut()
                .insert("idempotency-key", MetadataValue::from_static(key));
        }
        let events = zones.create_zone(request).await.unwrap().into_inner();
        cairn_proto::event::result(events).await.unwrap()
    };
    let (first, second) = (create(None, "").await, create(None, "").await);
    assert!(first.uuid.parse::<Uuid>().is_ok());
    assert_ne!(first.uuid, second.uuid);
    assert_eq!(create(None, "mine").await.uuid, "mine");
    let keyed = create(Some("k"), "").await;
    assert_eq!(keyed, create(Some("k"), "").await);
    assert_ne!(keyed.uuid, create(Some("other"), "").await.uuid);
    assert_eq!(keyed.account_uuid, AccountUuid::ADMIN.to_string());
    assert!(keyed.description.contains("\"k\""));
}

#[tokio::test]
async fn reflection_keeps_our_options_and_tells_of_every_resource() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let symbol = "cairn.query.v1alpha1.QueryService".to_owned();
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
    };
    let asked = futures::stream::iter([ask]);
    let mut client = ServerReflectionClient::new(router());
    let answers = client
        .server_reflection_info(bearer("right", asked))
        .await
        .unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let mut set = Vec::new();
    for file in &files.file_descriptor_proto {
        // A FileDescriptorSet is its files in field 1.
        prost::encoding::bytes::encode(1, file, &mut set);
    }
    let mut pool = prost_reflect::DescriptorPool::new();
    pool.decode_file_descriptor_set(set.as_slice()).unwrap();
    let known = Catalog::of(pool).unwrap();
    let names = |catalog: &Catalog| {
        catalog
            .resources()
            .map(|r| r.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&known), names(&Catalog::built_in()));
}
