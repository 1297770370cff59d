//! The command line of Cairn. Everything in it is made at run time from descriptors: those of the
//! server, asked for by gRPC reflection, or the built-in ones. A new resource, field or rpc needs
//! no code here, and neither does a plugin's.
//!
//! Absent on purpose: any mention of a resource by name, operations and cascade plans apart.

mod action;
mod call;
mod cascade;
mod comment;
mod completion;
mod condition;
mod connection;
mod credential;
mod error;
mod flag;
mod grammar;
mod labels;
mod log;
mod names;
mod query;
mod reflection;
mod resources;
mod size;
mod table;
mod terminal;
#[cfg(test)]
mod testing;

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use cairn_proto::meta::Catalog;
use clap::error::ErrorKind;

use crate::{
    action::Actions,
    call::{Session, Verdict},
    connection::Connection,
    error::{CliError, Outcome},
    grammar::{Asked, Early},
};

pub use completion::VARIABLE;
pub use connection::DynamicCodec;
pub use credential::Environment;
pub use terminal::Terminal;

/// A person who presses a key waits for each of these: to reach the server, and to be told names.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(1);

/// Does what `args`, without the name of the program, say. Returns the exit code: 0 if it
/// succeeded, 1 if the call failed or found what had better not be, 2 if the command is wrong.
///
/// `interrupt` ends when the person wants no more of it: the wait ends, an accepted operation
/// does not.
pub async fn run(
    args: &[String],
    environment: &Environment,
    terminal: &mut Terminal<'_>,
    interrupt: impl Future<Output = ()>,
) -> u8 {
    let early = Early::read(args);
    let interrupt = pin!(interrupt);
    let error = match attempt(args, &early, environment, terminal, interrupt).await {
        Ok(Verdict::Well) => return 0,
        Ok(Verdict::Complaint) => return 1,
        Err(error) => error,
    };
    if matches!(&error, CliError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe) {
        // The reader has seen enough.
        return 0;
    }
    let text = if early.json {
        format!("{:#}\n", error.json())
    } else {
        error.text()
    };
    // There is nowhere left to tell of a failure to tell.
    let _ = terminal.err.write_all(text.as_bytes());
    error.exit_code()
}

/// Tells a shell how `words`, the name of the program among them, can go on. Says nothing of what
/// goes wrong: the person is at something else.
pub async fn complete(
    shell: &str,
    words: &[String],
    environment: &Environment,
    out: &mut dyn io::Write,
) {
    let early = Early::read(words.get(1..).unwrap_or_default());
    let connected = tokio::time::timeout(COMPLETION_PATIENCE, connect(&early, environment)).await;
    let (connection, catalog) = match connected {
        Ok(Ok((connection, catalog))) => (Some(connection), catalog),
        _ => (None, Catalog::built_in()),
    };
    let actions = Actions::of(catalog);
    let _ = completion::complete(shell, words, &actions, connection.as_ref(), out).await;
}

async fn attempt(
    args: &[String],
    early: &Early,
    environment: &Environment,
    terminal: &mut Terminal<'_>,
    mut interrupt: std::pin::Pin<&mut dyn Future<Output = ()>>,
) -> Result<Verdict, CliError> {
    // Help is to be had without a server, and a wrong command is wrong without one.
    let (catalog, connection) = match connect(early, environment).await {
        Ok((connection, catalog)) => (catalog, Ok(connection)),
        Err(error) => (Catalog::built_in(), Err(error)),
    };
    let actions = Actions::of(Arc::clone(&catalog));
    let asked = match grammar::read(&actions, args) {
        Ok(asked) => asked,
        Err(error) => {
            help_or_usage(&error, connection.err(), terminal)?;
            return Ok(Verdict::Well);
        }
    };
    let mut verdict = Verdict::Well;
    match asked {
        Asked::Resources(noun) => {
            let text = resources::list(&catalog, noun.as_deref(), early.json)?;
            terminal.out.write_all(text.as_bytes())?;
        }
        Asked::Version => writeln!(terminal.out, "cairn {}", env!("CARGO_PKG_VERSION"))?,
        Asked::Completion(shell) => completion::script(shell, terminal.out)?,
        Asked::Call(mut invocation) => {
            let connection = connection?;
            tokio::select! {
                resolved = names::resolve(&connection, &actions, &mut invocation) => resolved?,
                () = interrupt.as_mut() => return Err(CliError::Interrupted(Outcome::Read)),
            }
            let mut session = Session {
                connection: &connection,
                actions: &actions,
                terminal,
                json: early.json,
                interrupt,
            };
            verdict = call::run(&mut session, &invocation).await?;
        }
    }
    terminal.out.flush()?;
    Ok(verdict)
}

async fn connect(
    early: &Early,
    environment: &Environment,
) -> Result<(Connection, Arc<Catalog>), CliError> {
    let (named, endpoint) = (early.credential.as_deref(), early.endpoint.as_deref());
    let credential = credential::read(named, endpoint, environment)?;
    let patience = early.patience();
    let answered = tokio::time::timeout(patience, async {
        let connection = Connection::open(&credential, patience).await?;
        let catalog = reflection::catalog(&connection).await?;
        Ok((connection, catalog))
    });
    answered.await.unwrap_or_else(|_| {
        Err(CliError::Silent {
            endpoint: credential.endpoint.clone(),
            patience,
        })
    })
}

fn help_or_usage(
    error: &clap::Error,
    offline: Option<CliError>,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let mut text = error.render().to_string();
    if !error.use_stderr() {
        terminal.out.write_all(text.as_bytes())?;
        return Ok(());
    }
    let unknown = matches!(
        error.kind(),
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument
    );
    if let Some(offline) = offline.filter(|_| unknown) {
        text.push_str(&format!(
            "\nOnly the built-in resources are known: {}\n",
            cairn_types::chain(&offline)
        ));
    }
    Err(CliError::Usage(text))
}
