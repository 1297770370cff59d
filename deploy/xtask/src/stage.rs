//! The stages that a change must pass, and how a run of them is told.

use std::{
    error::Error,
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::{
    arrows, buf,
    command::{cargo, run as run_command},
    error::XtaskError,
    tidy, tools, up,
};

/// One stage. The order is that of `cargo xtask test`: quick answers first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// The code is formatted.
    Fmt,
    /// Crates depend only on what stands below them.
    Arrows,
    /// The rules of the house that no other tool knows.
    Tidy,
    /// The contract: lint, format, and nothing broken for those who use it.
    Buf,
    /// No warning of the compiler or of clippy.
    Clippy,
    /// The documentation builds without a warning.
    Docs,
    /// The documentation's examples, then all tests.
    Test,
    /// A whole cloud on this machine: `cargo xtask up`, and down again.
    Up,
}

impl Stage {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn check(self) -> Result<(), XtaskError> {
        match self {
            Self::Fmt => run_command(&mut cargo(&["fmt", "--all", "--check"])),
            Self::Arrows => arrows::check(),
            Self::Tidy => tidy::check(),
            Self::Buf => buf::check(),
            Self::Clippy => {
                let arguments = [
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ];
                run_command(&mut cargo(&arguments))
            }
            Self::Docs => {
                let mut doc = cargo(&["doc", "--no-deps", "--workspace"]);
                run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Test => {
                tools::nextest()?;
                tools::host()?;
                tools::postgresql()?;
                run_command(&mut cargo(&["test", "--doc", "--workspace"]))?;
                run_command(&mut cargo(&["nextest", "run", "--workspace"]))
            }
            Self::Up => up::rehearse(),
        }
    }
}

/// Runs the stages up to the first that fails, and tells how long each took.
pub(crate) fn run(stages: &[Stage]) -> ExitCode {
    let mut done = Vec::new();
    for &stage in stages {
        println!("== {}", stage.name());
        let start = Instant::now();
        let outcome = stage.check();
        done.push((stage.name(), outcome.is_ok(), start.elapsed()));
        if let Err(error) = outcome {
            eprint!("{}", table(&done));
            eprintln!("error: stage `{}` failed: {}", stage.name(), chain(&error));
            eprintln!("run it alone with `cargo xtask check {}`", stage.name());
            return ExitCode::FAILURE;
        }
    }
    print!("{}", table(&done));
    ExitCode::SUCCESS
}

fn table(done: &[(String, bool, Duration)]) -> String {
    let mut text = String::from("\nstage    result   seconds\n");
    for (name, passed, time) in done {
        let result = if *passed { "ok" } else { "FAILED" };
        let _ = writeln!(text, "{name:<8} {result:<6} {:>9.1}", time.as_secs_f64());
    }
    let total: Duration = done.iter().map(|(_, _, time)| *time).sum();
    let _ = writeln!(text, "{:<8} {:<6} {:>9.1}", "all", "", total.as_secs_f64());
    text
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}
