//! A server that knows no service: it answers every rpc of a descriptor pool by script, over TLS,
//! and tells its descriptors by reflection.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State};
use cairn_cli::DynamicCodec;
use cairn_proto::meta::Catalog;
use futures::{StreamExt as _, stream::BoxStream};
use http_body_util::{BodyStream, StreamBody};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_reflection::pb::v1::{
    FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse,
    ServiceResponse,
    server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
    server_reflection_server::{ServerReflection, ServerReflectionServer},
};

/// One thing that the server does in a call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends a message.
    Send(Value),
    /// Ends the call with this status.
    Fail(Status),
    /// Breaks the call off without a status.
    Cut,
    /// Says nothing more.
    Hang,
}

/// What a call brought.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) request: Value,
    pub(crate) authorization: Option<String>,
    pub(crate) key: Option<String>,
}

#[derive(Clone)]
struct Shared {
    pool: DescriptorPool,
    scripts: Arc<Mutex<HashMap<String, VecDeque<Vec<Step>>>>>,
    calls: watch::Sender<Vec<Call>>,
}

/// The server, gone when dropped, with the credential file of its only caller.
pub(crate) struct Fake {
    shared: Shared,
    pub(crate) endpoint: String,
    pub(crate) credential: PathBuf,
    _dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

/// The built-in resources, and those of `tests/proto`.
fn pool() -> DescriptorPool {
    let here = env!("CARGO_MANIFEST_DIR");
    let folders = [format!("{here}/tests/proto"), format!("{here}/../../proto")];
    let mut compiler = protox::Compiler::new(folders).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("acme/v1/gadget.proto").unwrap();
    let set = compiler.encode_file_descriptor_set();
    Catalog::with(&[&set]).unwrap().pool().clone()
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::with_reflection(true).await
    }

    pub(crate) async fn with_reflection(reflection: bool) -> Self {
        let (calls, _) = watch::channel(Vec::new());
        let shared = Shared {
            pool: pool(),
            scripts: Arc::default(),
            calls,
        };
        let mut router = Router::new();
        if reflection {
            let service = ServerReflectionServer::new(Reflection(shared.pool.clone()));
            let path = "/grpc.reflection.v1.ServerReflection/{method}";
            router = router.route_service(path, service);
        }
        let router = router.fallback(answer).with_state(shared.clone());

        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (ca, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&ca, key));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let mut server = Server::builder().tls_config(tls).unwrap();
        let server = server.add_routes(Routes::from(router));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = server
                .serve_with_incoming(TcpIncoming::from(listener))
                .await;
        });

        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential.json");
        let json = json!({"endpoint": endpoint, "caCertificate": ca, "token": "t0k"});
        std::fs::write(&credential, json.to_string()).unwrap();
        Self {
            shared,
            endpoint,
            credential,
            _dir: dir,
            _tasks: tasks,
        }
    }

    /// What the next call of a method gets; further calls get what is scripted after it.
    pub(crate) fn script(&self, method: &str, steps: impl IntoIterator<Item = Step>) -> &Self {
        let mut scripts = self.shared.scripts.lock().unwrap();
        let of_method = scripts.entry(method.to_owned()).or_default();
        of_method.push_back(steps.into_iter().collect());
        drop(scripts);
        self
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Ends when so many calls have come.
    pub(crate) async fn called(&self, times: usize) {
        let mut calls = self.shared.calls.subscribe();
        calls.wait_for(|calls| calls.len() >= times).await.unwrap();
    }
}

impl Shared {
    fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, name) = path.trim_start_matches('/').split_once('/')?;
        let service = self.pool.get_service_by_name(service)?;
        service.methods().find(|method| method.name() == name)
    }

    fn begin(&self, method: &MethodDescriptor, request: Request<DynamicMessage>) -> Vec<Step> {
        let header = |name: &str| {
            let value = request.metadata().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let call = Call {
            authorization: header("authorization"),
            key: header("idempotency-key"),
            request: serde_json::to_value(request.get_ref()).unwrap(),
        };
        self.calls.send_modify(|calls| calls.push(call));
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.get_mut(method.name()).and_then(VecDeque::pop_front);
        script.unwrap_or_else(|| vec![Step::Fail(Status::unimplemented("no script"))])
    }
}

async fn answer(
    State(shared): State<Shared>,
    request: http::Request<axum::body::Body>,
) -> http::Response<Body> {
    let Some(method) = shared.method(request.uri().path()) else {
        return Status::unimplemented("no such method").into_http();
    };
    let cut = Arc::new(Mutex::new(false));
    let mut grpc = tonic::server::Grpc::new(DynamicCodec::decoding(method.input()));
    let service = tower::service_fn(|request| {
        let steps = shared.begin(&method, request);
        *cut.lock().unwrap() = matches!(steps.last(), Some(Step::Cut));
        let output = method.output();
        let messages = futures::stream::iter(steps).filter_map(move |step| {
            let output = output.clone();
            async move {
                match step {
                    Step::Send(json) => {
                        Some(Ok(DynamicMessage::deserialize(output, json).unwrap()))
                    }
                    Step::Fail(status) => Some(Err(status)),
                    Step::Cut => None,
                    Step::Hang => std::future::pending().await,
                }
            }
        });
        async move { Ok::<_, Status>(Response::new(messages.boxed())) }
    });
    let response = grpc.server_streaming(service, request.map(Body::new)).await;
    if !*cut.lock().unwrap() {
        return response;
    }
    response.map(|body| {
        let frames = BodyStream::new(body).map(|frame| match frame {
            Ok(frame) if frame.is_trailers() => Err(io::Error::other("cut")),
            frame => frame.map_err(io::Error::other),
        });
        Body::new(StreamBody::new(frames))
    })
}

struct Reflection(DescriptorPool);

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let pool = self.0.clone();
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let response = match request.message_request {
                Some(MessageRequest::ListServices(_)) => services(&pool),
                Some(MessageRequest::FileContainingSymbol(symbol)) => files(&pool, &symbol),
                _ => return Err(Status::invalid_argument("not asked by the CLI")),
            };
            Ok(ServerReflectionResponse {
                message_response: Some(response),
                ..ServerReflectionResponse::default()
            })
        });
        Ok(Response::new(answers.boxed()))
    }
}

fn services(pool: &DescriptorPool) -> MessageResponse {
    let service = pool.services().map(|service| ServiceResponse {
        name: service.full_name().to_owned(),
    });
    MessageResponse::ListServicesResponse(ListServiceResponse {
        service: service.collect(),
    })
}

/// The symbol's file; with the service that answers queries of all resources, every file.
fn files(pool: &DescriptorPool, symbol: &str) -> MessageResponse {
    let of_symbol = pool.get_service_by_name(symbol).unwrap().parent_file();
    let all = symbol == "cairn.query.v1alpha1.QueryService";
    let told = pool.files().filter(|file| all || *file == of_symbol);
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto: told.map(|file| file.encode_to_vec()).collect(),
    })
}
