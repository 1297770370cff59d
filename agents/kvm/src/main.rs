//! The agent's program: makes the host's identity, installs what its enrolment gave, runs.

use std::{
    error::Error,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tracing::{error, info};

use cairn_agent_protocol::Enrollment;
use cairn_agent_runtime::{AgentServer, Options, install, request};
use cairn_boot::{Tasks, config, shutdown, telemetry};
use cairn_kvm::{KvmAgent, KvmConfig};
use cairn_types::{HostUuid, chain};

/// How long the parts of the process have to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The agent of a host that runs virtual machines with QEMU.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the host's key if there is none, and prints its certificate signing request.
    Identity {
        /// The state folder.
        #[arg(long)]
        directory: PathBuf,
        /// The host.
        #[arg(long)]
        host: HostUuid,
    },
    /// Installs what the host's enrolment returned, JSON on standard input.
    Install {
        /// The state folder.
        #[arg(long)]
        directory: PathBuf,
    },
    /// Serves the nodes until a signal asks it to stop. Virtual machines go on.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-kvm: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Identity { directory, host } => print!("{}", request(&directory, host)?),
        Command::Install { directory } => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            let enrollment: Enrollment = serde_json::from_str(&text)?;
            let host = install(&directory, &enrollment)?;
            println!("host {host} is enrolled");
        }
        Command::Run { config } => serve(&config::load(config)?).await?,
    }
    Ok(())
}

async fn serve(config: &KvmConfig) -> Result<(), Box<dyn Error>> {
    let telemetry = telemetry::start(&config.telemetry)?;
    let signal = shutdown::signal()?;
    let agent = Arc::new(KvmAgent::open(config).await?);
    let server = AgentServer::new(agent, Options::new(config.directory.get_ref()))?;
    if server.hosts() != [config.host] {
        let text = format!(
            "{} does not have the enrolment of host {}, or has that of others too",
            config.directory.get_ref().display(),
            config.host
        );
        return Err(text.into());
    }
    let listener = TcpListener::bind(config.listen).await?;
    info!(host = %config.host, address = %listener.local_addr()?, "listening");

    let tasks = Tasks::new();
    tasks.start_once("agent", move |stop| async move {
        server.run(listener, stop).await;
    });
    tokio::select! {
        signal = signal => info!(signal, "stop"),
        () = tasks.stopping().cancelled() => {}
    }
    if let Err(stuck) = tasks.shutdown(STOP_LIMIT).await {
        error!(?stuck, "tasks did not stop");
    }
    telemetry.shutdown().await;
    match tasks.failed() {
        Some(failed) => Err(failed.clone().into()),
        None => Ok(()),
    }
}
