//! The simulator's process: any number of simulated hosts on one listener, controlled by JSON
//! lines on standard input.

use std::{
    error::Error,
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    thread,
};

use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use cairn_agent_runtime::Options;
use cairn_boot::{
    Spanned,
    telemetry::{self, TelemetryConfig},
};
use cairn_simulator::{Control, Simulator};

/// Simulated hosts behind the agent's real wire.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which the first line of output tells.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The state folder.
    #[arg(long)]
    dir: PathBuf,
    /// Do not keep results and fencing tokens on disk.
    #[arg(long)]
    ephemeral: bool,
    /// Keep virtual machines and volumes over a restart, as if the hosts had gone on running.
    #[arg(long)]
    keep_vms: bool,
    /// What to log on standard error: a level, or levels per target.
    #[arg(long, default_value = "info")]
    log: String,
    /// Where traces go over OTLP (gRPC), as in http://127.0.0.1:4317.
    #[arg(long)]
    otlp_endpoint: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let at = 0..0;
    let telemetry = telemetry::start(&TelemetryConfig {
        log: Spanned::new(at.clone(), arguments.log),
        otlp_endpoint: arguments.otlp_endpoint.map(|to| Spanned::new(at, to)),
        service_name: env!("CARGO_PKG_NAME").to_owned(),
        ..TelemetryConfig::default()
    })?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    std::fs::create_dir_all(&arguments.dir)?;
    let simulator = match arguments.keep_vms {
        true => Simulator::kept_in(&arguments.dir)?,
        false => Simulator::default(),
    };
    let durable = !arguments.ephemeral;
    let server = simulator.server(Options {
        durable,
        ..Options::new(arguments.dir)
    })?;
    let listener = TcpListener::bind(arguments.listen).await?;
    say(&serde_json::json!({ "listening": listener.local_addr()? }).to_string())?;

    let control = Control::new(simulator, server.clone());
    let shutdown = CancellationToken::new();
    let mut lines = lines_of_input();
    let serve = server.run(listener, shutdown.clone());
    let answer = async {
        while let Some(line) = lines.recv().await {
            say(&control.answer(&line).await)?;
        }
        // The end of the input ends the controls, not the hosts.
        std::future::pending::<io::Result<()>>().await
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        () = serve => Ok(()),
        failed = answer => failed,
        () = stop => Ok(()),
    };
    telemetry.shutdown().await;
    Ok(ended?)
}

/// A thread of its own, which does not keep the process from ending: a read of standard input
/// cannot be interrupted.
fn lines_of_input() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
