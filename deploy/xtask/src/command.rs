//! Running other programs, from the project's root and without an input.

use std::{
    env,
    ffi::OsStr,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::error::XtaskError;

/// The project's root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command(
        env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
        arguments,
    )
}

/// A program to be run by [`run`] or asked by [`ask`].
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    // `cargo run` describes this package in variables that build scripts look at (ring's does):
    // passed on, they would have those built again at each change between cargo and cargo xtask.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program to its end; its output is ours.
pub(crate) fn run(command: &mut Command) -> Result<(), XtaskError> {
    println!("$ {}", text(command));
    let status = command.status().map_err(|cause| start(command, cause))?;
    if status.success() {
        return Ok(());
    }
    Err(XtaskError::Failed {
        command: text(command),
        status,
    })
}

/// Runs the program and takes its standard output.
pub(crate) fn ask(command: &mut Command) -> Result<String, XtaskError> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|c| start(command, c))?;
    if !output.status.success() {
        return Err(XtaskError::Failed {
            command: text(command),
            status: output.status,
        });
    }
    Ok(stdout(&output))
}

/// Runs the program and takes its standard output; its error output is in the error.
pub(crate) fn hear(command: &mut Command) -> Result<String, XtaskError> {
    let output = command.output().map_err(|c| start(command, c))?;
    if !output.status.success() {
        return Err(XtaskError::Said {
            command: text(command),
            status: output.status,
            words: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(stdout(&output))
}

/// Runs the program for its answer, when "no" or "not here" is an answer too.
pub(crate) fn try_ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| stdout(&output).trim().to_owned())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn start(command: &Command, cause: std::io::Error) -> XtaskError {
    XtaskError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        cause,
    }
}

/// The command as a person types it, with the program's name alone.
pub(crate) fn text(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = [program].into_iter().chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
