//! The project's own commands, run as `cargo xtask <command>`.
//!
//! What a change must pass is written here and nowhere else: a person, a hook and CI run the same
//! `cargo xtask test`, and each of its stages alone by `cargo xtask check <stage>`. Tools that are
//! not part of a Rust installation are fetched when a stage needs them, at pinned versions.

mod arrows;
mod buf;
mod command;
mod error;
mod metadata;
mod stage;
mod tidy;
mod tools;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};

use error::XtaskError;
use stage::Stage;

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every stage, the quick ones first; stops at the first that fails.
    Test,
    /// Some of the stages, in the order given.
    Check {
        /// The stages.
        #[arg(required = true)]
        stages: Vec<Stage>,
    },
    /// A cloud on this machine: a node and two hosts, each with a virtual machine. Completes what
    /// is there; needs root.
    Up(up::UpOptions),
    /// Ends what `up` began, and keeps its data.
    Down(up::DownOptions),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Test => stage::run(Stage::value_variants()),
        Command::Check { stages } => stage::run(&stages),
        Command::Up(options) => exit(up::up(&options).map(drop)),
        Command::Down(options) => exit(up::down(&options)),
    }
}

fn exit(outcome: Result<(), XtaskError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", stage::chain(&error));
            ExitCode::FAILURE
        }
    }
}
