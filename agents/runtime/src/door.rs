//! The agent's listener: commands and pings, from nodes only.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, Uri, header::HOST},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use crate::{book::Admission, host::Host, server::AgentServer};
use cairn_agent_protocol::{Command, CommandHead, CommandParseError, Moment, Pong, header, path};
use cairn_tls::{Identity, Peer};
use cairn_types::chain;

pub(crate) fn router(server: AgentServer) -> Router {
    Router::new()
        .route(&format!("{}/{{name}}", path::COMMANDS), post(command))
        .route(path::PING, get(ping))
        .layer(middleware::from_fn(nodes_only))
        .with_state(server)
}

async fn nodes_only(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    match peer.identity {
        Some(Identity::Node(_)) => Ok(next.run(request).await),
        _ => Err(StatusCode::FORBIDDEN),
    }
}

async fn command(
    State(server): State<AgentServer>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(host) = asked_for(&server, &uri, &headers) else {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    };
    let get = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let head = match CommandHead::from_headers(get) {
        Ok(head) => head,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let command = match Command::parse(&name, &body) {
        Ok(command) => command,
        Err(error) => {
            let status = match error {
                CommandParseError::Unknown(_) => StatusCode::NOT_FOUND,
                CommandParseError::Invalid { .. } => StatusCode::BAD_REQUEST,
            };
            return (status, chain(&error)).into_response();
        }
    };
    let (admission, moment) = host.book.admit(&head);
    let (status, text) = match admission {
        Admission::New { entry, after } => {
            server.start_task(host, head, command, entry, after);
            (StatusCode::ACCEPTED, String::new())
        }
        Admission::Repeat => (StatusCode::ACCEPTED, String::new()),
        Admission::Stale { highest } => {
            let text = format!("a token of {highest} came for {} already", head.resource);
            (StatusCode::CONFLICT, text)
        }
        Admission::Unaware => {
            let text = format!(
                "`{}` does not know of all that happened to {}",
                header::SEEN,
                head.resource
            );
            (StatusCode::PRECONDITION_FAILED, text)
        }
    };
    (status, said(moment), text).into_response()
}

async fn ping(State(server): State<AgentServer>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(host) = asked_for(&server, &uri, &headers) else {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    };
    let pong = Pong {
        agent_incarnation: server.incarnation(),
        status: server.agent().status(host.uuid).await,
    };
    (said(host.book.now()), Json(pong)).into_response()
}

/// The header that goes with every answer.
fn said(moment: Moment) -> [(&'static str, String); 1] {
    [(header::MOMENT, moment.into())]
}

/// The host that a request is for: HTTP/2 names it in the URI, HTTP/1.1 in a header.
fn asked_for(server: &AgentServer, uri: &Uri, headers: &HeaderMap) -> Option<Arc<Host>> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST)?.to_str().ok()?,
    };
    let name = authority.split(':').next()?;
    match Identity::from_dns_name(name)? {
        Identity::Host(uuid) => server.host(uuid),
        Identity::Node(_) => None,
    }
}
