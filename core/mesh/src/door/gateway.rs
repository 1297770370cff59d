//! From gRPC on the wire to a call of the mesh, and back. It knows methods by their path and
//! messages as bytes, so a service that joins later needs nothing here.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use cairn_boot::propagation;
use cairn_proto::{
    call::{Answer, Call, Context, Mesh, Method},
    fault::Fault,
};
use cairn_types::{AccountUuid, ErrorCode};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tonic::{
    Code, Status,
    metadata::MetadataMap,
    server::{Grpc, ServerStreamingService, UnaryService},
};
use tower::Service;

use super::{
    auth::Caller,
    codec::BytesCodec,
    limits::CallLimits,
    metrics::{self, Measured},
};

#[derive(Clone)]
pub(super) struct Gateway {
    mesh: Mesh,
    methods: Arc<HashMap<&'static str, &'static Method>>,
    limits: CallLimits,
}

impl Gateway {
    pub(super) fn new(
        mesh: Mesh,
        methods: HashMap<&'static str, &'static Method>,
        limits: CallLimits,
    ) -> Self {
        Self {
            mesh,
            methods: Arc::new(methods),
            limits,
        }
    }
}

impl Service<Request> for Gateway {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let method = self.methods.get(request.uri().path()).copied();
        let caller = request.extensions().get::<Caller>().copied();
        let (mesh, limits) = (self.mesh.clone(), self.limits.clone());
        Box::pin(async move {
            let refused = |code, message: String| {
                Ok(Status::from(Fault::new(code, message)).into_http::<Body>())
            };
            let Some(Caller(account)) = caller else {
                return refused(
                    ErrorCode::Unauthenticated,
                    "the caller has no name".to_owned(),
                );
            };
            let Some(method) = method else {
                metrics::refused(Code::Unimplemented);
                let message = format!("there is no method {}", request.uri().path());
                return refused(ErrorCode::Unimplemented, message);
            };
            let call = MeshCall {
                mesh,
                method,
                account,
                limits,
            };
            let mut grpc = Grpc::new(BytesCodec);
            let response = if method.streaming {
                grpc.server_streaming(call, request).await
            } else {
                grpc.unary(call, request).await
            };
            Ok(response.map(Body::new))
        })
    }
}

/// One method of the mesh, as the service that tonic's server runs for a request.
struct MeshCall {
    mesh: Mesh,
    method: &'static Method,
    account: AccountUuid,
    limits: CallLimits,
}

impl MeshCall {
    fn start(
        &self,
        request: tonic::Request<Bytes>,
    ) -> impl Future<Output = Result<Answer, Status>> + use<> {
        let context = context(self.account, request.metadata());
        let call = context.and_then(|context| {
            Call::from_bytes(self.method, context, request.into_inner())
                .map_err(|error| Status::invalid_argument(cairn_types::chain(&error)))
        });
        let mesh = self.mesh.clone();
        async move { mesh.call(call?).await }
    }
}

impl UnaryService<Bytes> for MeshCall {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let measured = Measured::start(self.method.path);
        let counted = self.limits.take(self.account);
        let answer = self.start(request);
        Box::pin(measured.unary(async move {
            let _counted = counted.map_err(|over| Fault::of(&over))?;
            match answer.await? {
                Answer::One(payload) => Ok(tonic::Response::new(payload.into_bytes())),
                Answer::Stream(_) => Err(Status::internal("a stream in answer to a unary call")),
            }
        }))
    }
}

impl ServerStreamingService<Bytes> for MeshCall {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let measured = Measured::start(self.method.path);
        let counted = self.limits.take(self.account);
        let answer = self.start(request);
        Box::pin(async move {
            let counted = match counted {
                Ok(counted) => counted,
                Err(over) => {
                    let refused = Err(Fault::of(&over).into());
                    return measured.stream::<Bytes>(refused).map(tonic::Response::new);
                }
            };
            let answer = match answer.await {
                Ok(Answer::Stream(stream)) => Ok(stream),
                Ok(Answer::One(_)) => Err(Status::internal("one message in answer to a stream")),
                Err(refused) => Err(refused),
            };
            let stream = measured.stream(answer)?;
            let bytes = stream.map(move |item| {
                // The call is open as long as its answer is.
                let _ = &counted;
                item.map(|payload| payload.into_bytes())
            });
            Ok(tonic::Response::new(bytes.boxed()))
        })
    }
}

/// The context of a call that comes from outside, by its metadata.
fn context(account: AccountUuid, metadata: &MetadataMap) -> Result<Context, Status> {
    let mut context = Context::of(account);
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = metadata.get("idempotency-key") {
        let key = key
            .to_str()
            .ok()
            .filter(|key| (1..=255).contains(&key.len()));
        let key = key.ok_or_else(|| {
            Fault::field(
                "idempotency-key",
                "must be 1 to 255 printable ASCII characters",
            )
        })?;
        context.idempotency_key = Some(key.into());
    }
    if let Some(timeout) = text("grpc-timeout") {
        let timeout = parse_timeout(timeout).ok_or_else(|| {
            Fault::field(
                "grpc-timeout",
                "must be up to 8 digits and a unit: H, M, S, m, u or n",
            )
        })?;
        context.deadline = Instant::now().checked_add(timeout);
    }
    let traceparent = text("traceparent").filter(|text| propagation::follows(text));
    context.traceparent = traceparent.map(Into::into);
    Ok(context)
}

/// The `grpc-timeout` header, as the gRPC protocol over HTTP/2 writes it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("250m", Some(Duration::from_millis(250))),
            ("", None),
            ("S", None),
            ("5", None),
            ("123456789S", None),
            ("-1S", None),
            ("5é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
