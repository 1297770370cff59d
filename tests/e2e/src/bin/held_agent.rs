//! The simulator's agent, whose tasks a test can hold: it stays at the place that a line on its
//! standard input says, tells that, and is killed there. Its hosts keep what they have, as machines
//! do.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cairn_agent_runtime::Options;
use cairn_e2e::HoldAt;
use cairn_simulator::Simulator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Arguments: the state folder with the enrolled hosts, and where to listen.
#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap());
    let listen: SocketAddr = arguments.next().unwrap().parse().unwrap();
    let simulator = Simulator::kept_in(&directory).unwrap();
    let options = Options {
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
        failpoints: Some(HoldAt::as_told()),
        ..Options::new(directory)
    };
    let server = simulator.server(options).unwrap();
    let listener = TcpListener::bind(listen).await.unwrap();
    println!("{}", serde_json::json!({ "listening": listen }));
    server.run(listener, CancellationToken::new()).await;
}
