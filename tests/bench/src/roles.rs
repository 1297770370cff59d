//! The other processes of a benchmark: a node, and simulated hosts.

use std::{io::Write as _, path::PathBuf, thread};

use cairn_agent_runtime::Options;
use cairn_boot::{config, shutdown};
use cairn_node::{Config, Node};
use cairn_simulator::{Control, Simulator};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

fn say(line: &serde_json::Value) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

pub(crate) async fn node(config: PathBuf) {
    let config: Config = config::load(&config).unwrap();
    let (limit, signal) = (config.shutdown_limit(), shutdown::signal().unwrap());
    let node = Node::start(config).await.unwrap();
    say(&serde_json::json!({ "serving": node.public_address() }));
    signal.await;
    node.stop(limit).await;
}

/// Results and tokens of simulated hosts are kept in memory: what is measured is the node.
pub(crate) async fn simulator(folder: PathBuf) {
    let simulator = Simulator::default();
    let server = simulator
        .server(Options {
            durable: false,
            ..Options::new(folder)
        })
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    say(&serde_json::json!({ "serving": listener.local_addr().unwrap() }));
    let (running, stop) = (server.clone(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(async move { running.run(listener, stop).await });
    let control = Control::new(simulator, server);
    let (questions, mut asked) = mpsc::unbounded_channel();
    // Reading standard input blocks, and ends with the process only.
    thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let _ = questions.send(line.unwrap());
        }
    });
    while let Some(line) = asked.recv().await {
        println!("{}", control.answer(&line).await);
    }
}
