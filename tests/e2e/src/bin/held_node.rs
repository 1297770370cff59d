//! A node whose flows a test can hold: it tells each place that it was asked to hold, and stays
//! there until it is killed. It differs from `cairn-node` in nothing else.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::sync::Arc;

use async_trait::async_trait;
use cairn_boot::{config, telemetry};
use cairn_node::{Additions, Config, Node};
use cairn_operation::{At, Failpoints, Then};

struct HoldAt {
    place: String,
}

#[async_trait]
impl Failpoints for HoldAt {
    async fn at(&self, at: At<'_>) -> Then {
        let place = format!("{:?} {} {} {}", at.point, at.flow, at.step, at.direction);
        if place == self.place {
            println!("{}", serde_json::json!({ "held": place }));
            std::future::pending::<()>().await;
        }
        Then::GoOn
    }
}

/// Arguments: the configuration file, and the place to hold, or nothing.
#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let config: Config = config::load(arguments.next().unwrap()).unwrap();
    let _telemetry = telemetry::start(&config.telemetry).unwrap();
    let failpoints = arguments
        .next()
        .map(|place| Arc::new(HoldAt { place }) as Arc<dyn Failpoints>);
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
