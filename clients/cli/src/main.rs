//! The `cairn` command.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use cairn_cli::{Environment, Terminal, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut terminal = Terminal {
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        progress: io::stderr().is_terminal(),
    };
    let args = std::env::args_os().skip(1);
    let args: Vec<_> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let interrupt = async {
        // Without the handler Ctrl-C ends the process, which is right as well.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let environment = Environment::of_process();
    ExitCode::from(run(&args, &environment, &mut terminal, interrupt).await)
}
