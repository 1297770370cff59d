//! What a call between services costs in one process, beside a plain async function.

use std::{hint::black_box, sync::Arc, time::Duration};

use async_trait::async_trait;
use cairn_mesh::LocalMesh;
use cairn_proto::{
    call::Mesh,
    query::v1alpha1::{
        QueryClient, QueryDispatch, QueryRequest, QueryResponse, query_service_server::QueryService,
    },
};
use cairn_types::Uuid;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::process::cpu_of;

const IN_FLIGHT: usize = 64;
const PAYLOAD: usize = 200;
const ROUNDS: usize = 5;

struct Echo;

#[async_trait]
impl QueryService for Echo {
    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        let total = request.into_inner().resource.len();
        Ok(Response::new(QueryResponse {
            total: Some(total as u64),
            ..Default::default()
        }))
    }
}

fn request() -> QueryRequest {
    QueryRequest {
        resource: "x".repeat(PAYLOAD),
        query: None,
    }
}

async fn plain(request: QueryRequest) -> QueryResponse {
    QueryResponse {
        total: Some(request.resource.len() as u64),
        ..Default::default()
    }
}

async fn through_mesh(mesh: Mesh, calls: usize) {
    let client = QueryClient::new(mesh);
    let calls = stream::iter(0..calls).map(|_| client.query(request()));
    calls
        .buffer_unordered(IN_FLIGHT)
        .for_each(|answer| async { drop(black_box(answer.unwrap())) })
        .await;
}

async fn by_function(calls: usize) {
    let calls = stream::iter(0..calls).map(|_| plain(request()));
    calls
        .buffer_unordered(IN_FLIGHT)
        .for_each(|answer| async { drop(black_box(answer)) })
        .await;
}

/// The least of several rounds: other work on the machine only ever adds.
async fn cpu_per_call(calls: usize, mut round: impl AsyncFnMut(usize)) -> f64 {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = cpu_of("self");
        round(calls).await;
        least = least.min(cpu_of("self") - before);
    }
    least.as_secs_f64() * 1e6 / calls as f64
}

pub(crate) async fn run(calls: usize) -> Value {
    let mesh = LocalMesh::new(Uuid::now_v7());
    mesh.serve(vec![Arc::new(QueryDispatch(Arc::new(Echo)))], vec![])
        .unwrap();
    let handle = mesh.handle();
    let call = cpu_per_call(calls, async |calls| {
        through_mesh(handle.clone(), calls).await
    })
    .await;
    // A plain call is so cheap that a clock of 10 ms needs more of them.
    let plain = cpu_per_call(calls * 4, async |calls| by_function(calls).await).await;
    json!({
        "cpu_us_per_call": call,
        "plain_fn_cpu_us": plain,
        "in_flight": IN_FLIGHT,
        "payload_bytes": PAYLOAD,
    })
}
