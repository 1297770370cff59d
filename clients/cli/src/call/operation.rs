//! A call that changes something: it is waited for to its end, whatever becomes of the connection.

use cairn_types::Uuid;
use prost_reflect::DynamicMessage;
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
};

use super::{Session, called, inner, retries::Retries, text_in};
use crate::{
    connection::{self, Connection},
    error::{CliError, Outcome},
    grammar::Invocation,
    table,
    terminal::Spinner,
};

/// Makes the call, waits for its end and prints its result.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<(), CliError> {
    let last = ended(session, invocation).await?;
    let text = if invocation.no_wait {
        text_in(&last, "operation_uuid") + "\n"
    } else {
        table::details(&last)
    };
    session.print(&last, &text)
}

/// Makes the call and waits for its end: its result, or that it was accepted if that is enough.
pub(super) async fn ended(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<DynamicMessage, CliError> {
    let given = invocation.idempotency_key.clone();
    let key = given.unwrap_or_else(|| Uuid::now_v7().to_string());
    let mut wait = Wait {
        connection: session.connection,
        invocation,
        key: key.parse().map_err(|_| CliError::IdempotencyKey)?,
        operation: None,
        spinner: Spinner::new(session.terminal.progress && !session.json),
    };
    let ended = tokio::select! {
        ended = wait.until_its_end() => Some(ended),
        () = session.interrupt.as_mut() => None,
    };
    let outcome = wait.outcome();
    drop(wait);
    ended.unwrap_or(Err(CliError::Interrupted(outcome)))
}

struct Wait<'a> {
    connection: &'a Connection,
    invocation: &'a Invocation<'a>,
    key: MetadataValue<Ascii>,
    /// Known once the call was accepted.
    operation: Option<String>,
    spinner: Spinner,
}

impl Wait<'_> {
    /// The result; or what was accepted, if that is enough. A call that was cut is repeated with
    /// the same key, by which it attaches to the operation that it already is.
    async fn until_its_end(&mut self) -> Result<DynamicMessage, CliError> {
        let mut retries = Retries::new();
        loop {
            let status = match self.call().await {
                Ok(Some(last)) => return Ok(last),
                Ok(None) => Status::unavailable("the stream ended before the operation did"),
                Err(status) => status,
            };
            if !connection::is_cut(&status) {
                let operation = self.operation.as_deref();
                return Err(called(self.invocation, &status, operation));
            }
            self.spinner.say("the connection was cut".to_owned());
            if !retries.again().await {
                return Err(CliError::Lost {
                    outcome: self.outcome(),
                    cause: Box::new(status),
                });
            }
        }
    }

    async fn call(&mut self) -> Result<Option<DynamicMessage>, Status> {
        let method = &self.invocation.action.method;
        let request = self.invocation.request.clone();
        let call = self.connection.stream(method, request, Some(&self.key));
        let mut stream = call.await?;
        while let Some(message) = stream.message().await? {
            if let Some(accepted) = inner(&message, "accepted") {
                self.operation = Some(text_in(&accepted, "operation_uuid"));
                if self.invocation.no_wait {
                    return Ok(Some(accepted));
                }
                self.spinner.say("accepted".to_owned());
            } else if let Some(progress) = inner(&message, "progress") {
                let percent = progress.get_field_by_name("percent");
                let percent = percent.and_then(|p| p.as_u32()).unwrap_or_default();
                let text = table::printable(&text_in(&progress, "message"));
                self.spinner.say(format!("{percent} % {text}"));
            } else if let Some(result) = inner(&message, "result") {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }

    fn outcome(&self) -> Outcome {
        match &self.operation {
            Some(uuid) => Outcome::Operation(uuid.clone()),
            None => Outcome::Unknown {
                key: self.key.to_str().unwrap_or_default().to_owned(),
            },
        }
    }
}
