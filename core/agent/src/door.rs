//! The node's callback listener: outcomes and hellos, from hosts' agents only.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};

use crate::{Ack, Agents, pending::Arrived};
use cairn_agent_protocol::{Changed, Hello, Moment, OutcomeReport, path};
use cairn_tls::{Identity, Peer};
use cairn_types::{HostUuid, OperationUuid};

/// What the callback listener must know of the cloud's hosts and operations.
#[async_trait]
pub trait HostRegistry: Send + Sync + 'static {
    /// Whether the host is part of the cloud and this is the fingerprint of its certificate.
    async fn admits(&self, host: HostUuid, fingerprint: &str) -> bool;

    /// Whether it is known that the operation has ended: an outcome of its tasks is of no use.
    async fn operation_ended(&self, operation: OperationUuid) -> bool;

    /// An agent started. Its waiting tasks are sent again already.
    async fn hello(&self, hello: Hello);

    /// What a host has changed without a command.
    async fn changed(&self, host: HostUuid);
}

#[derive(Clone)]
struct Door {
    agents: Agents,
    registry: Arc<dyn HostRegistry>,
}

/// The host that the caller's certificate names; in the extensions of an admitted request.
#[derive(Clone, Copy)]
struct Caller(HostUuid);

/// The routes of the callback listener, to be served by [`cairn_tls::serve`] behind
/// [`cairn_tls::mutual_server`].
pub fn callback_router(agents: Agents, registry: Arc<dyn HostRegistry>) -> Router {
    let door = Door { agents, registry };
    Router::new()
        .route(path::OUTCOMES, post(outcome))
        .route(path::HELLO, post(hello))
        .route(path::CHANGED, post(changed))
        .layer(middleware::from_fn_with_state(
            door.clone(),
            admitted_hosts_only,
        ))
        .with_state(door)
}

async fn admitted_hosts_only(
    State(door): State<Door>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let (Some(Identity::Host(host)), Some(fingerprint)) = (peer.identity, peer.fingerprint) else {
        return Err(StatusCode::FORBIDDEN);
    };
    if !door.registry.admits(host, &fingerprint).await {
        return Err(StatusCode::FORBIDDEN);
    }
    request.extensions_mut().insert(Caller(host));
    Ok(next.run(request).await)
}

async fn outcome(
    State(door): State<Door>,
    Extension(Caller(host)): Extension<Caller>,
    Json(report): Json<OutcomeReport>,
) -> Response {
    if report.host != host {
        return StatusCode::FORBIDDEN.into_response();
    }
    let OutcomeReport {
        task,
        operation,
        began,
        outcome,
        ..
    } = report;
    let inner = &door.agents.inner;
    let (ack, committed) = Ack::new(inner.seen.clone(), host, task, began);
    let arrived = Arrived {
        began,
        outcome,
        ack,
    };
    if inner.pending.deliver(host, task, arrived) {
        if committed.await.is_ok() {
            return StatusCode::OK.into_response();
        }
    } else if inner.seen.committed(host, task) == Some(began) {
        // The agent did not hear it.
        return StatusCode::OK.into_response();
    } else if door.registry.operation_ended(operation).await {
        return StatusCode::GONE.into_response();
    }
    // Its call may be about to begin, here after a restart or at another node.
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()
}

async fn hello(
    State(door): State<Door>,
    Extension(Caller(host)): Extension<Caller>,
    Json(hello): Json<Hello>,
) -> StatusCode {
    if hello.host != host {
        return StatusCode::FORBIDDEN;
    }
    let inner = &door.agents.inner;
    inner
        .seen
        .heard(host, Moment::start(hello.agent_incarnation));
    inner.pending.send_again(host);
    door.registry.hello(hello).await;
    StatusCode::OK
}

async fn changed(
    State(door): State<Door>,
    Extension(Caller(host)): Extension<Caller>,
    Json(changed): Json<Changed>,
) -> StatusCode {
    if changed.host != host {
        return StatusCode::FORBIDDEN;
    }
    door.registry.changed(host).await;
    StatusCode::OK
}
