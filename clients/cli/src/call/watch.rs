//! Following a stream: the events of an operation, or whatever else a call sends until it ends.

use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{Operation, OperationEvent, OperationState, operation_event::Event},
};
use cairn_types::ErrorCode;
use prost_reflect::{DynamicMessage, Value};
use tonic::{Status, Streaming};

use super::{Session, called, inner, line, retries::Retries, text_in};
use crate::{
    action::Kind,
    connection::{Connection, is_cut},
    error::{CliError, Outcome},
    grammar::Invocation,
    table,
};

/// Prints each event, for programs as a line of JSON. The end of an operation that failed ends
/// the command as it would end the call that made it.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<(), CliError> {
    let watches = invocation.action.kind == Kind::Watch;
    let outcome = || {
        if watches {
            Outcome::Operation(text_in(&invocation.request, "uuid"))
        } else {
            Outcome::Read
        }
    };
    let connection = session.connection;
    let mut request = invocation.request.clone();
    let mut retries = Retries::new();
    let mut stream = None;
    loop {
        let message = tokio::select! {
            message = next(connection, invocation, &request, &mut stream) => message,
            () = session.interrupt.as_mut() => return Err(CliError::Interrupted(outcome())),
        };
        let status = match message {
            Ok(Some(message)) if watches => {
                let (number, last) = event(session, &message)?;
                // A stream that is cut goes on after the last event seen.
                let _ = request.try_set_field_by_name("after", Value::U64(number));
                if last {
                    return Ok(());
                }
                continue;
            }
            Ok(Some(message)) => {
                session.print_line(&message, &line(&message)?)?;
                continue;
            }
            Ok(None) if !watches => return Ok(()),
            Ok(None) => Status::unavailable("the stream ended before the operation did"),
            Err(status) => status,
        };
        if !watches || !is_cut(&status) {
            return Err(called(invocation, &status, None));
        }
        stream = None;
        if !retries.again().await {
            return Err(CliError::Lost {
                outcome: outcome(),
                cause: Box::new(status),
            });
        }
    }
}

/// The next message of the stream, which is opened first if it is not.
async fn next(
    connection: &Connection,
    invocation: &Invocation<'_>,
    request: &DynamicMessage,
    stream: &mut Option<Streaming<DynamicMessage>>,
) -> Result<Option<DynamicMessage>, Status> {
    let open = match stream {
        Some(open) => open,
        None => {
            let method = &invocation.action.method;
            let opened = connection.stream(method, request.clone(), None).await?;
            stream.insert(opened)
        }
    };
    open.message().await
}

/// Prints an event of an operation: its number, and whether it is the last.
fn event(session: &mut Session<'_, '_>, message: &DynamicMessage) -> Result<(u64, bool), CliError> {
    let event = inner(message, "event").ok_or(CliError::Answer("an event is empty".to_owned()))?;
    let known: OperationEvent = event
        .transcode_to()
        .map_err(|cause| CliError::Answer(cause.to_string()))?;
    let text = match &known.event {
        Some(Event::Accepted(accepted)) => format!("accepted {}\n", accepted.operation_uuid),
        Some(Event::Progress(progress)) => {
            let text = table::printable(&progress.message);
            format!("{:>3} % {text}\n", progress.percent)
        }
        Some(Event::Ended(_)) => {
            inner(&event, "ended").map_or_else(String::new, |ended| table::details(&ended))
        }
        None => String::new(),
    };
    session.print_line(message, &text)?;
    match known.event {
        Some(Event::Ended(operation)) => ended(operation).map(|()| (known.number, true)),
        _ => Ok((known.number, false)),
    }
}

fn ended(operation: Operation) -> Result<(), CliError> {
    if operation.state() == OperationState::Succeeded {
        return Ok(());
    }
    let code = operation.error_code();
    let code = ErrorCode::from_text(code).unwrap_or(ErrorCode::Internal);
    Err(CliError::Called {
        fault: Box::new(Fault::new(code, operation.error_message())),
        request: None,
        operation: Some(operation.uuid),
    })
}
