//! Names the caller of a request, or refuses it before anything else looks at it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use cairn_proto::fault::Fault;
use cairn_types::{AccountUuid, ErrorCode};
use futures::future::BoxFuture;
use http::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::metrics;

/// Knows the credentials.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The account whose token this is.
    async fn authenticate(&self, token: &str) -> Result<AccountUuid, Unauthenticated>;
}

/// Why a caller was not named.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// Nobody has this token.
    #[error("the credential is not known")]
    Unknown,
    /// The credentials cannot be read now.
    #[error("credentials cannot be checked now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The account that the door verified, on the way from the check to the gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) AccountUuid);

#[derive(Clone)]
pub(super) struct AuthLayer(Arc<dyn Authenticator>);

impl AuthLayer {
    pub(super) fn new(authenticator: Arc<dyn Authenticator>) -> Self {
        Self(authenticator)
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth {
            authenticator: Arc::clone(&self.0),
            inner,
        }
    }
}

#[derive(Clone)]
pub(super) struct Auth<S> {
    authenticator: Arc<dyn Authenticator>,
    inner: S,
}

impl<S> Service<Request> for Auth<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let authenticator = Arc::clone(&self.authenticator);
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let named = match token(&request) {
                Ok(token) => account(&*authenticator, token).await,
                Err(refused) => Err(refused),
            };
            match named {
                Ok(account) => {
                    request.extensions_mut().insert(Caller(account));
                    inner.call(request).await
                }
                Err(refused) => Ok(refusal(&request, refused)),
            }
        })
    }
}

/// A program that does not speak gRPC looks at the HTTP status, where gRPC says 200.
fn refusal(request: &Request, fault: Fault) -> Response {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let message = fault.message.clone();
    let status = Status::from(fault);
    metrics::refused(status.code());
    if is_grpc {
        status.into_http()
    } else if status.code() == Code::Unauthenticated {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        (StatusCode::UNAUTHORIZED, challenge, message).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
    }
}

fn token(request: &Request) -> Result<String, Fault> {
    let header = request.headers().get(AUTHORIZATION);
    let header = header
        .ok_or_else(|| refuse("a credential is missing: send `authorization: Bearer TOKEN`"))?;
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| refuse("`authorization` is not of the form `Bearer TOKEN`"))?;
    Ok(token.to_owned())
}

async fn account(authenticator: &dyn Authenticator, token: String) -> Result<AccountUuid, Fault> {
    authenticator
        .authenticate(&token)
        .await
        .map_err(|error| match error {
            Unauthenticated::Unknown => refuse("the credential is not known"),
            Unauthenticated::Unavailable(cause) => {
                let mut fault =
                    Fault::new(ErrorCode::Unavailable, "credentials cannot be checked now");
                fault.causes.push(cause.to_string());
                fault
            }
        })
}

fn refuse(message: &str) -> Fault {
    Fault::new(ErrorCode::Unauthenticated, message)
}
