//! The `cairn` command.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use cairn_cli::{Environment, Terminal, VARIABLE, complete, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let args: Vec<_> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let environment = Environment::of_process();
    if let Some(shell) = std::env::var(VARIABLE).ok().filter(|s| !s.is_empty()) {
        // The words so far come after a `--`.
        let words: Vec<_> = args
            .into_iter()
            .skip_while(|arg| arg != "--")
            .skip(1)
            .collect();
        complete(&shell, &words, &environment, &mut io::stdout()).await;
        return ExitCode::SUCCESS;
    }
    let mut terminal = Terminal {
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        progress: io::stderr().is_terminal(),
    };
    let interrupt = async {
        // Without the handler Ctrl-C ends the process, which is right as well.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    ExitCode::from(run(&args, &environment, &mut terminal, interrupt).await)
}
