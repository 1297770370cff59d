//! Reading a log: its last part, and then what is added to it.

use std::time::Duration;

use anstream::adapter::StripBytes;
use prost_reflect::{DynamicMessage, Value};
use tokio::time::sleep;

use super::{Session, called, line, retries::Retries};
use crate::{
    connection::is_cut,
    error::{CliError, Outcome},
    grammar::Invocation,
    log,
};

/// Between two questions for more.
const PAUSE: Duration = Duration::from_millis(500);
/// What is looked through for so many lines.
const MOST_BYTES: u32 = 1 << 20;

/// Prints the log as text without what would steer a terminal, for programs as JSON. To be
/// followed, it is asked for again and again from where the last answer ended.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<(), CliError> {
    let args = invocation.log;
    let mut request = invocation.request.clone();
    if args.lines.is_some() && !request.has_field_by_name("limit_bytes") {
        set(&mut request, "limit_bytes", Value::U32(MOST_BYTES))?;
    }
    let from_the_end = !request.has_field_by_name("offset");
    let mut strip = StripBytes::new();
    let part = ask(session, invocation, &request).await?;
    if session.json && !args.follow {
        return session.print(&part.message, "");
    }
    let mut shown = &part.content[..];
    if from_the_end && part.offset > 0 {
        shown = log::whole_lines(shown);
    }
    if let Some(lines) = args.lines {
        shown = log::last_lines(shown, lines);
    }
    show(session, &part, shown, &mut strip)?;
    if !args.follow {
        if !shown.is_empty() && !shown.ends_with(b"\n") {
            session.terminal.out.write_all(b"\n")?;
        }
        return Ok(());
    }
    let mut next = part.next();
    loop {
        set(&mut request, "offset", Value::U64(next))?;
        let part = match ask(session, invocation, &request).await {
            // That is how following a log ends.
            Err(CliError::Interrupted(_)) => return Ok(()),
            part => part?,
        };
        // A log that was begun anew is shorter than what was read of it.
        next = if part.total_bytes < next {
            0
        } else {
            part.next()
        };
        show(session, &part, &part.content, &mut strip)?;
        if next != 0 && part.content.is_empty() {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = session.interrupt.as_mut() => return Ok(()),
            }
        }
    }
}

/// A part of a log.
struct Part {
    message: DynamicMessage,
    content: Vec<u8>,
    offset: u64,
    total_bytes: u64,
}

impl Part {
    fn read(message: DynamicMessage) -> Result<Self, CliError> {
        let number = |name| message.get_field_by_name(name)?.as_u64();
        let content = message
            .get_field_by_name("content")
            .and_then(|content| Some(content.as_bytes()?.to_vec()));
        match (content, number("offset"), number("total_bytes")) {
            (Some(content), Some(offset), Some(total_bytes)) => Ok(Self {
                content,
                offset,
                total_bytes,
                message,
            }),
            _ => Err(CliError::Answer("it is no part of a log".to_owned())),
        }
    }

    fn next(&self) -> u64 {
        self.offset + self.content.len() as u64
    }
}

/// One part; a call that was cut is tried again, as one that reads may be.
async fn ask(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
    request: &DynamicMessage,
) -> Result<Part, CliError> {
    let method = &invocation.action.method;
    let mut retries = Retries::new();
    loop {
        let answer = tokio::select! {
            answer = session.connection.unary(method, request.clone(), None) => answer,
            () = session.interrupt.as_mut() => return Err(CliError::Interrupted(Outcome::Read)),
        };
        match answer {
            Ok(message) => return Part::read(message),
            Err(status) if is_cut(&status) && retries.again().await => {}
            Err(status) => return Err(called(invocation, &status, None)),
        }
    }
}

fn show(
    session: &mut Session<'_, '_>,
    part: &Part,
    shown: &[u8],
    strip: &mut StripBytes,
) -> Result<(), CliError> {
    let out = &mut session.terminal.out;
    if session.json {
        if !part.content.is_empty() {
            out.write_all(line(&part.message)?.as_bytes())?;
        }
    } else {
        for text in strip.strip_next(shown) {
            let kept = text.iter().filter(|byte| **byte != b'\r');
            out.write_all(&kept.copied().collect::<Vec<_>>())?;
        }
    }
    Ok(out.flush()?)
}

fn set(request: &mut DynamicMessage, name: &str, value: Value) -> Result<(), CliError> {
    let problem = |cause| CliError::Answer(format!("the request is of no log: {cause}"));
    request.try_set_field_by_name(name, value).map_err(problem)
}
