//! Reports to the nodes: sent until one of them takes it.

use std::{future::Future, pin::pin, time::Duration};

use axum::http::{StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use serde::Serialize;
use tracing::{debug, warn};

use crate::host::Host;
use cairn_types::chain;

/// Pauses between attempts: doubled from the first to the longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// How many nodes must hear a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The first that takes it: an outcome has one place to go.
    One,
    /// All that are there: each may have tasks that the agent's start concerns.
    All,
}

/// Posts a message until a node takes it, or says with 410 that nobody wants it. `addresses` is
/// asked before each round; the enrolment's addresses are tried after those. A round begins
/// early when `hurry` ends.
pub(crate) async fn post_until_taken<F: Future<Output = ()>>(
    host: &Host,
    (path, reach): (&'static str, Reach),
    message: &impl Serialize,
    backoff: Backoff,
    addresses: impl Fn() -> Vec<String>,
    hurry: impl Fn() -> F,
) {
    let body: Bytes = match serde_json::to_vec(message) {
        Ok(body) => body.into(),
        Err(error) => return warn!(host = %host.uuid, path, %error, "report is not JSON"),
    };
    let mut pause = backoff.first;
    loop {
        let trust = host.trust();
        let mut bases = addresses();
        for base in &trust.callbacks {
            if !bases.contains(base) {
                bases.push(base.clone());
            }
        }
        let posts = bases
            .iter()
            .map(|base| post(host, &trust.http, base, path, body.clone()));
        let taken = match reach {
            Reach::One => {
                pin!(stream::iter(posts).then(|post| post))
                    .any(async |taken| taken)
                    .await
            }
            Reach::All => join_all(posts).await.contains(&true),
        };
        if taken {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                if pause < backoff.longest && pause * 2 >= backoff.longest {
                    warn!(host = %host.uuid, path, "no node takes a report; trying on");
                }
                pause = (pause * 2).min(backoff.longest);
            }
            () = hurry() => pause = backoff.first,
        }
    }
}

/// Posts a message to every node once. For what is not worth a repeat.
pub(crate) async fn post_once(host: &Host, path: &'static str, message: &impl Serialize) {
    let body: Bytes = match serde_json::to_vec(message) {
        Ok(body) => body.into(),
        Err(error) => return warn!(host = %host.uuid, path, %error, "report is not JSON"),
    };
    let trust = host.trust();
    let bases = trust.callbacks.iter();
    join_all(bases.map(|base| post(host, &trust.http, base, path, body.clone()))).await;
}

/// One attempt at one node; whether it took the message or wants it no more.
async fn post(
    host: &Host,
    http: &reqwest::Client,
    base: &str,
    path: &'static str,
    body: Bytes,
) -> bool {
    let posted = http
        .post(format!("{}{path}", base.trim_end_matches('/')))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await;
    match posted.map(|answer| answer.status()) {
        Ok(StatusCode::OK | StatusCode::GONE) => return true,
        Ok(status) => debug!(host = %host.uuid, base, path, %status, "report not taken"),
        Err(error) => {
            debug!(host = %host.uuid, base, path, error = %chain(&error), "report");
        }
    }
    false
}
