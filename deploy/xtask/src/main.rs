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

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};

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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Test => stage::run(Stage::value_variants()),
        Command::Check { stages } => stage::run(&stages),
    }
}
