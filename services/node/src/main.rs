//! `cairn-node --config FILE`: runs a node until SIGTERM or SIGINT.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use cairn_boot::{config, shutdown, telemetry};
use cairn_node::{Config, Node, check};
use cairn_types::chain;
use clap::Parser;
use tracing::{error, info};

/// Rows, messages and tasks are made and dropped by different threads, many of them, and small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a node of a Cairn cloud.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/cairn/node.toml")]
    config: PathBuf,
    /// Check the configuration, and the flows that it names, and end.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cairn-node: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config: Config = config::load(&arguments.config)?;
    if arguments.check {
        return Ok(check(&config).await?);
    }
    let telemetry = telemetry::start(&config.telemetry)?;
    let signal = shutdown::signal()?;
    let limit = config.shutdown_limit();
    let node = Node::start(config).await?;
    // One line for programs that start a node; everything else is in the log on stderr.
    let serving = serde_json::json!({
        "public": node.public_address().to_string(),
        "callback": node.callback_address().to_string(),
    });
    writeln!(std::io::stdout(), "{serving}")?;
    tokio::select! {
        signal = signal => info!(signal, "stopping"),
        () = node.failed() => error!("a task of the node failed; stopping"),
    }
    node.stop(limit).await;
    telemetry.shutdown().await;
    Ok(())
}
