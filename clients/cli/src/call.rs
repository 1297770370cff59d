//! Carrying out an invocation: one answer, rows, an operation to wait for, or events to follow.

mod cascade;
mod fix;
mod log;
mod operation;
mod retries;
mod upload;
mod watch;

use std::{future::Future, pin::Pin};

use cairn_proto::fault::Fault;
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use tonic::Status;

use crate::{
    action::{Actions, Kind},
    cascade::PLAN_ANSWER,
    connection::Connection,
    error::{CliError, Outcome},
    grammar::Invocation,
    labels::Labels,
    query::{self, Found},
    table,
    terminal::Terminal,
};

/// What an invocation is carried out with.
pub(crate) struct Session<'a, 't> {
    pub(crate) connection: &'a Connection,
    pub(crate) actions: &'a Actions,
    pub(crate) terminal: &'a mut Terminal<'t>,
    pub(crate) json: bool,
    /// Ends when the person wants no more of it.
    pub(crate) interrupt: Pin<&'a mut dyn Future<Output = ()>>,
}

/// How what was answered is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is what was asked for.
    Well,
    /// There is something in it that had better not be.
    Complaint,
}

/// Makes the call and prints what it answers.
pub(crate) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<Verdict, CliError> {
    let ran = match invocation.action.kind {
        Kind::Operation | Kind::Upload if invocation.file.is_some() => {
            upload::run(session, invocation).await
        }
        // The grammar asks for the file of an upload.
        Kind::Operation | Kind::Upload => match invocation.cascade {
            None => operation::run(session, invocation).await,
            Some(wanted) => cascade::run(session, invocation, wanted).await,
        },
        Kind::Watch | Kind::Stream => watch::run(session, invocation).await,
        Kind::Log => log::run(session, invocation).await,
        Kind::Unary => {
            let answer = unary(session, invocation).await?;
            let mut text = match answer.descriptor().full_name() {
                PLAN_ANSWER => crate::cascade::text(&cascade::read(&answer)?),
                _ => table::answer(&answer, &session.actions.catalog),
            };
            if let Some(complaint) = &invocation.action.complaint {
                let list = &complaint.list;
                if answer.has_field(list) {
                    session.print(&answer, &text)?;
                    return match invocation.fix {
                        true => fix::run(session, invocation, complaint, &answer).await,
                        false => Ok(Verdict::Complaint),
                    };
                }
                text.insert_str(0, &format!("no {}\n\n", list.json_name()));
            }
            session.print(&answer, &text)
        }
        Kind::Query | Kind::GenericQuery => {
            let answer = unary(session, invocation).await?;
            let found = Found::read(&answer).map_err(CliError::Answer)?;
            let text = match session.json {
                true => String::new(),
                false => rows(session, invocation, &found).await,
            };
            session.print(&answer, &text)?;
            if invocation.query.is_full(found.rows.len()) && !session.json {
                tell_of_more(session, invocation, &found).await?;
            }
            Ok(())
        }
    };
    ran.map(|()| Verdict::Well)
}

/// Says what the limit cut off, if it did.
async fn tell_of_more(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
    found: &Found,
) -> Result<(), CliError> {
    let query = &invocation.query;
    let (shown, next) = (found.rows.len(), query.start + found.rows.len() as u64);
    let total = match found.total {
        Some(total) => total,
        None => {
            let count = query.counting();
            let counted = query::find(session.connection, invocation.action, &count).await;
            // The rows are there, and that is what was asked for.
            counted
                .ok()
                .and_then(|found| found.total)
                .unwrap_or_default()
        }
    };
    if total > next {
        session.terminal.out.flush()?;
        let note = format!("{shown} of {total} are shown; --start {next} shows what follows.");
        writeln!(session.terminal.err, "{note}")?;
    }
    Ok(())
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

async fn rows(session: &Session<'_, '_>, invocation: &Invocation<'_>, found: &Found) -> String {
    let (catalog, fields) = (&session.actions.catalog, &invocation.query.fields);
    let total = found.total.map(|total| total.to_string());
    if invocation.query.count {
        return total.unwrap_or_default() + "\n";
    }
    let noun = &invocation.action.noun;
    let resource = catalog.resource(noun);
    let mut text = if found.rows.is_empty() {
        let plural = resource.map_or(noun, |resource| &resource.plural);
        format!("no {plural}\n")
    } else {
        let message = found.rows[0].descriptor();
        let columns = table::columns(&message, catalog, fields);
        // Who asks for a field gets what is in it.
        if fields.is_empty() {
            let (connection, actions) = (session.connection, session.actions);
            let labels = Labels::of(connection, actions, &found.rows, &columns).await;
            table::labelled_rows(&found.rows, &columns, &labels)
        } else {
            table::rows(&found.rows, &columns)
        }
    };
    if let Some(total) = total {
        text.push_str(&format!("\n{total} in all\n"));
    }
    text
}

/// The server's refusal, with what the command line knows of it.
fn called(invocation: &Invocation<'_>, status: &Status, operation: Option<&str>) -> CliError {
    CliError::Called {
        fault: Box::new(Fault::from_status(status)),
        request: Some(invocation.asked()),
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
