//! How long a node takes from its start until it serves, and what it takes of memory at rest.

use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{Process, node_config};

pub(crate) async fn run() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let config = node_config(folder.path(), None);
    // The first start makes the database and the CA.
    Process::start("node", &config).await.stop().await;
    let started = Instant::now();
    let node = Process::start("node", &config).await;
    let serving = started.elapsed();
    let rss = node.resident_mib();
    node.stop().await;
    json!({ "serving_ms": serving.as_secs_f64() * 1e3, "rss_mib": rss })
}
