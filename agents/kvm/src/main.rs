//! The agent's program: makes the host's identity, installs what its enrolment gave, runs.

use std::{
    error::Error,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use cairn_agent_protocol::Enrollment;
use cairn_agent_runtime::{install, request};
use cairn_boot::config;
use cairn_kvm::serve;
use cairn_types::{HostUuid, chain};

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
