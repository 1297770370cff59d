//! Putting right what was listed: an operation for each element, one after the other, and a line that
//! says what came of it.

use cairn_proto::{fault::Fault, meta::EnumNames};
use cairn_types::ErrorCode;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, ReflectMessage as _};

use super::{Session, Verdict, operation};
use crate::{
    action::{self, Action, Complaint},
    error::CliError,
    grammar::Invocation,
    table,
};

/// What is not put right does not keep the others from it. Well if nothing is left.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
    complaint: &Complaint,
    answer: &DynamicMessage,
) -> Result<Verdict, CliError> {
    let Some(method) = &complaint.fixed_by else {
        return Ok(Verdict::Complaint);
    };
    let list = answer.get_field(&complaint.list);
    let elements = list.as_list().unwrap_or_default();
    let mut verdict = Verdict::Well;
    session.terminal.out.write_all(b"\n")?;
    for (number, element) in elements.iter().filter_map(|it| it.as_message()).enumerate() {
        let action = Action {
            method: method.clone(),
            kind: action::Kind::Operation,
            complaint: None,
            ..invocation.action.clone()
        };
        let request = request(method, element);
        let what = words(&request);
        let key = invocation.idempotency_key.as_ref();
        let fix = Invocation {
            idempotency_key: key.map(|key| format!("{key}/{number}")),
            ..Invocation::of(&action, request)
        };
        let (text, line) = match operation::ended(session, &fix).await {
            Ok(result) => (outcome(&result), json(&result)?),
            Err(CliError::Called {
                fault, operation, ..
            }) => {
                verdict = Verdict::Complaint;
                let operation = operation.unwrap_or_default();
                let line = serde_json::json!({
                    "code": fault.code.as_str(),
                    "message": fault.message,
                    "operationUuid": operation,
                });
                (failure(&fault, &operation), line)
            }
            Err(lost) => return Err(lost),
        };
        let line = match session.json {
            true => serde_json::json!({"fix": json(element)?, "result": line}).to_string(),
            false => table::printable(&format!("{what}: {text}")),
        };
        writeln!(session.terminal.out, "{line}")?;
        session.terminal.out.flush()?;
    }
    Ok(verdict)
}

/// The fields of the request are those of the same names in the element.
fn request(method: &MethodDescriptor, element: &DynamicMessage) -> DynamicMessage {
    let mut request = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        if let Some(from) = element.descriptor().get_field_by_name(field.name())
            && element.has_field(&from)
        {
            let value = element.get_field(&from).into_owned();
            // One of another type does not fit, and is refused as absent.
            let _ = request.try_set_field(&field, value);
        }
    }
    request
}

/// What an element is called: the texts that name it, apart from uuids and types.
fn words(request: &DynamicMessage) -> String {
    let descriptor = request.descriptor();
    let fields = descriptor.fields().filter(|field| {
        let mut other = ["_uuid", "_type"].iter();
        field.kind() == Kind::String && !other.any(|end| field.name().ends_with(end))
    });
    let words = fields.filter_map(|field| Some(request.get_field(&field).as_str()?.to_owned()));
    words.collect::<Vec<_>>().join(" ")
}

fn outcome(result: &DynamicMessage) -> String {
    let named = result.descriptor().fields().find_map(|field| {
        let names = EnumNames::of(field.kind().as_enum()?);
        let name = names.name(result.get_field(&field).as_enum_number()?)?;
        Some(name.to_lowercase())
    });
    named.unwrap_or_else(|| "done".to_owned())
}

fn failure(fault: &Fault, operation: &str) -> String {
    match fault.code {
        ErrorCode::LeftToGc => format!("left to gc-job {operation}: {}", fault.message),
        _ => fault.message.clone(),
    }
}

fn json(message: &DynamicMessage) -> Result<serde_json::Value, CliError> {
    serde_json::to_value(message).map_err(|cause| CliError::Answer(cause.to_string()))
}
