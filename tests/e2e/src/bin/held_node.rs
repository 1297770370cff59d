//! A node whose flows a test can hold: it tells each place that it was asked to hold, and stays
//! there until it is killed. It differs from `cairn-node` in nothing else.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::sync::Arc;

use cairn_boot::{config, telemetry};
use cairn_e2e::HoldAt;
use cairn_node::{Additions, Config, Node};
use cairn_operation::Failpoints;

/// Arguments: the configuration file, and the place to hold, or nothing.
#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let config: Config = config::load(arguments.next().unwrap()).unwrap();
    let _telemetry = telemetry::start(&config.telemetry).unwrap();
    let failpoints = arguments
        .next()
        .map(|place| HoldAt::place(place) as Arc<dyn Failpoints>);
    let additions = Additions {
        failpoints,
        ..Additions::default()
    };
    let node = Node::start_with(config, additions).await.unwrap();
    let serving = serde_json::json!({
        "public": node.public_address(),
        "callback": node.callback_address(),
    });
    println!("{serving}");
    std::future::pending::<()>().await;
}
