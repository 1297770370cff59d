//! Carrying out an invocation: one answer, rows, an operation to wait for, or events to follow.

mod operation;
mod retries;
mod upload;
mod watch;

use std::{future::Future, pin::Pin};

use cairn_proto::{fault::Fault, meta::Catalog};
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use tonic::Status;

use crate::{
    action::Kind,
    connection::Connection,
    error::{CliError, Outcome},
    grammar::Invocation,
    query::Found,
    table,
    terminal::Terminal,
};

/// What an invocation is carried out with.
pub(crate) struct Session<'a, 't> {
    pub(crate) connection: &'a Connection,
    pub(crate) catalog: &'a Catalog,
    pub(crate) terminal: &'a mut Terminal<'t>,
    pub(crate) json: bool,
    /// Ends when the person wants no more of it.
    pub(crate) interrupt: Pin<&'a mut dyn Future<Output = ()>>,
}

/// Makes the call and prints what it answers.
pub(crate) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<(), CliError> {
    match invocation.action.kind {
        Kind::Operation | Kind::Upload if invocation.file.is_some() => {
            upload::run(session, invocation).await
        }
        // The grammar asks for the file.
        Kind::Operation | Kind::Upload => operation::run(session, invocation).await,
        Kind::Watch | Kind::Stream => watch::run(session, invocation).await,
        Kind::Unary => {
            let answer = unary(session, invocation).await?;
            let text = table::answer(&answer, session.catalog);
            session.print(&answer, &text)
        }
        Kind::Query | Kind::GenericQuery => {
            let answer = unary(session, invocation).await?;
            let text = rows(session.catalog, invocation, &answer)?;
            session.print(&answer, &text)
        }
    }
}

async fn unary(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<DynamicMessage, CliError> {
    let key = invocation.idempotency_key.as_ref().map(|key| key.parse());
    let key = key.transpose().map_err(|_| CliError::IdempotencyKey)?;
    let method = &invocation.action.method;
    let call = session
        .connection
        .unary(method, invocation.request.clone(), key.as_ref());
    let answer = tokio::select! {
        answer = call => answer,
        () = session.interrupt.as_mut() => return Err(CliError::Interrupted(Outcome::Read)),
    };
    answer.map_err(|status| called(invocation, &status, None))
}

fn rows(
    catalog: &Catalog,
    invocation: &Invocation<'_>,
    answer: &DynamicMessage,
) -> Result<String, CliError> {
    let found = Found::read(answer).map_err(CliError::Answer)?;
    let total = found.total.map(|total| total.to_string());
    if invocation.query.count {
        return Ok(total.unwrap_or_default() + "\n");
    }
    let noun = &invocation.action.noun;
    let resource = catalog.resource(noun);
    let mut text = if found.rows.is_empty() {
        let plural = resource.map_or(noun, |resource| &resource.plural);
        format!("no {plural}\n")
    } else {
        let message = found.rows[0].descriptor();
        let columns = table::columns(&message, catalog, &invocation.query.fields);
        table::rows(&found.rows, &columns)
    };
    if let Some(total) = total {
        text.push_str(&format!("\n{total} in all\n"));
    }
    Ok(text)
}

/// The server's refusal, with what the command line knows of it.
fn called(invocation: &Invocation<'_>, status: &Status, operation: Option<&str>) -> CliError {
    CliError::Called {
        fault: Box::new(Fault::from_status(status)),
        request: Some(invocation.action.method.input()),
        operation: operation.map(str::to_owned),
    }
}

impl Session<'_, '_> {
    /// Prints an answer as JSON, or the text that says it.
    fn print(&mut self, answer: &DynamicMessage, text: &str) -> Result<(), CliError> {
        if self.json {
            let json = serde_json::to_string_pretty(answer);
            let json = json.map_err(|cause| CliError::Answer(cause.to_string()))?;
            writeln!(self.terminal.out, "{json}")?;
        } else {
            self.terminal.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Prints one message of many, as it comes.
    fn print_line(&mut self, message: &DynamicMessage, text: &str) -> Result<(), CliError> {
        let text = if self.json { &line(message)? } else { text };
        self.terminal.out.write_all(text.as_bytes())?;
        Ok(self.terminal.out.flush()?)
    }
}

/// A message as one line of JSON.
fn line(message: &DynamicMessage) -> Result<String, CliError> {
    let json = serde_json::to_string(message);
    json.map(|json| json + "\n")
        .map_err(|cause| CliError::Answer(cause.to_string()))
}

/// The message that a message holds in the field of that name, if it does.
fn inner(message: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    if !message.has_field_by_name(name) {
        return None;
    }
    message.get_field_by_name(name)?.as_message().cloned()
}

fn text_in(message: &DynamicMessage, name: &str) -> String {
    let value = message.get_field_by_name(name);
    value
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}
