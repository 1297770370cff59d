//! Failures as they travel: a gRPC status with `google.rpc` details, and back.
//!
//! `ErrorInfo.reason` is the stable code in domain `cairn`, its metadata names the resource and
//! what was rolled back; `BadRequest` names each wrong field; `DebugInfo` has the causes;
//! `RetryInfo` says when to try again.

use std::{collections::HashMap, time::Duration};

use cairn_types::{Coded, ErrorCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "cairn";

/// A failure with all that its receiver should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, for people.
    pub message: String,
    /// The resource it happened to: its noun and uuid.
    pub resource: Option<(String, String)>,
    /// The fields that are wrong: field, and what is wrong with what would be right.
    pub fields: Vec<(String, String)>,
    /// The causes, nearest first.
    pub causes: Vec<String>,
    /// What was undone, in the order of undoing.
    pub rolled_back: Vec<String>,
    /// How long to wait before trying again, if it is known to help.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A failure with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            resource: None,
            fields: Vec::new(),
            causes: Vec::new(),
            rolled_back: Vec::new(),
            retry_after: None,
        }
    }

    /// The failure that an error of ours is, with its causes.
    pub fn of(error: &dyn Coded) -> Self {
        let mut fault = Self::new(error.code(), error.to_string());
        fault.fields = error.fields();
        fault.retry_after = error.retry_after();
        let mut cause = error.source();
        while let Some(next) = cause {
            fault.causes.push(next.to_string());
            cause = next.source();
        }
        fault
    }

    /// A request with one wrong field: what is wrong, and what would be right.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::fields(vec![(field.into(), problem.into())])
    }

    /// A request with wrong fields.
    #[must_use]
    pub fn fields(fields: Vec<(String, String)>) -> Self {
        let text: Vec<_> = fields
            .iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect();
        Self {
            fields,
            ..Self::new(ErrorCode::InvalidArgument, text.join("; "))
        }
    }

    /// There is no such resource.
    pub fn not_found(resource: &str, uuid: &str) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format!("there is no {resource} {uuid}"),
        )
        .on(resource, uuid)
    }

    /// The same failure, of this resource.
    #[must_use]
    pub fn on(mut self, resource: &str, uuid: &str) -> Self {
        self.resource = Some((resource.to_owned(), uuid.to_owned()));
        self
    }

    /// Reads a failure back from a status; one that is not ours gets the nearest code.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let code = info.and_then(|info| ErrorCode::from_text(&info.reason));
        let mut fault = Self::new(
            code.unwrap_or_else(|| nearest(status.code())),
            status.message(),
        );
        if let Some(info) = info {
            let get = |key| info.metadata.get(key).cloned();
            fault.resource = get("resource").zip(get("uuid"));
            fault.rolled_back = get("rolledBack")
                .map_or(Vec::new(), |l| l.split(", ").map(str::to_owned).collect());
        }
        if let Some(bad) = details.bad_request() {
            let each = bad.field_violations.iter();
            fault.fields = each
                .map(|v| (v.field.clone(), v.description.clone()))
                .collect();
        }
        if let Some(debug) = details.debug_info() {
            fault.causes = debug.stack_entries.clone();
        }
        fault.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        fault
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut metadata = HashMap::new();
        if let Some((resource, uuid)) = fault.resource {
            metadata.insert("resource".to_owned(), resource);
            metadata.insert("uuid".to_owned(), uuid);
        }
        if !fault.rolled_back.is_empty() {
            metadata.insert("rolledBack".to_owned(), fault.rolled_back.join(", "));
        }
        let mut details = ErrorDetails::new();
        details.set_error_info(fault.code.as_str(), DOMAIN, metadata);
        if !fault.fields.is_empty() {
            let each = fault.fields.into_iter();
            details.set_bad_request(
                each.map(|(field, problem)| FieldViolation::new(field, problem))
                    .collect::<Vec<_>>(),
            );
        }
        if !fault.causes.is_empty() {
            details.set_debug_info(fault.causes, String::new());
        }
        if fault.retry_after.is_some() {
            details.set_retry_info(fault.retry_after);
        }
        Status::with_error_details(grpc_code(fault.code), fault.message, details)
    }
}

impl<E: Coded> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// The status of an error of ours.
pub fn status(error: &dyn Coded) -> Status {
    Fault::of(error).into()
}

fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists | ErrorCode::IdempotencyKeyReused => Code::AlreadyExists,
        ErrorCode::InUse
        | ErrorCode::WrongState
        | ErrorCode::PlanOutdated
        | ErrorCode::CascadeIncomplete => Code::FailedPrecondition,
        ErrorCode::OutOfCapacity | ErrorCode::Overloaded => Code::ResourceExhausted,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::Unimplemented => Code::Unimplemented,
        ErrorCode::Unavailable | ErrorCode::AgentUnreachable | ErrorCode::Store => {
            Code::Unavailable
        }
        ErrorCode::AgentFailed
        | ErrorCode::StorageFailed
        | ErrorCode::LeftToGc
        | ErrorCode::WaitCycle => Code::Aborted,
        ErrorCode::Internal => Code::Internal,
    }
}

fn nearest(code: Code) -> ErrorCode {
    ErrorCode::ALL
        .iter()
        .copied()
        .find(|ours| grpc_code(*ours) == code)
        .unwrap_or(ErrorCode::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        let fault = Fault {
            causes: vec!["connection refused".into()],
            rolled_back: vec!["allocate-nic".into(), "allocate-host".into()],
            retry_after: Some(Duration::from_millis(1_500)),
            ..Fault::field("name", "is empty; give 1 to 255 characters").on("zone", "z")
        };
        assert_eq!(Fault::from_status(&Status::from(fault.clone())), fault);
    }

    #[test]
    fn a_foreign_status_gets_the_nearest_code() {
        assert_eq!(
            Fault::from_status(&Status::not_found("x")).code,
            ErrorCode::NotFound
        );
        assert_eq!(
            Fault::from_status(&Status::data_loss("x")).code,
            ErrorCode::Internal
        );
    }
}
