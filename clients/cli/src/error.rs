//! What can go wrong, and how it is told: to people as text, to programs as JSON.

use std::{fmt::Write as _, io, path::PathBuf, time::Duration};

use cairn_proto::{fault::Fault, meta::CatalogError};
use cairn_types::{Coded, ErrorCode};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::json;
use tonic::Status;

use crate::{action, flag, query};

/// A failure of the command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is wrong; the text tells where and what would be right.
    #[error("{0}")]
    Usage(String),
    #[error(
        "there is no credential; give --credential FILE, set CAIRN_CREDENTIAL, or put one at {}",
        .places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoCredential { places: Vec<PathBuf> },
    #[error("the credential {} cannot be read", .path.display())]
    CredentialFile {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is no credential", .path.display())]
    Credential {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the token holds a character that no header can carry")]
    Token,
    #[error("the idempotency key holds a character that no header can carry")]
    IdempotencyKey,
    #[error("the endpoint {endpoint} cannot be called: {problem}")]
    Endpoint { endpoint: String, problem: String },
    #[error("{endpoint} cannot be reached")]
    Connect {
        endpoint: String,
        #[source]
        cause: tonic::transport::Error,
    },
    #[error("{endpoint} did not answer within {} seconds", .patience.as_secs())]
    Silent {
        endpoint: String,
        patience: Duration,
    },
    #[error("the server's descriptors cannot be read")]
    Descriptors {
        #[source]
        cause: CatalogError,
    },
    /// The server ended the call, or the operation, with an error.
    #[error("{}", .fault.message)]
    Called {
        fault: Box<Fault>,
        /// What was asked, to name wrong fields as the person did.
        request: Option<Asked>,
        /// Which operation it was, if it came to be one.
        operation: Option<String>,
    },
    #[error("the connection was cut; {}", .outcome.hint())]
    Lost {
        outcome: Outcome,
        #[source]
        cause: Box<Status>,
    },
    #[error("stopped waiting; {}", .0.hint())]
    Interrupted(Outcome),
    #[error("the file {} cannot be read", .path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// The file is not the one that was begun with.
    #[error(
        "{there} bytes were uploaded, and {} has {size}: it is not the file that was begun with",
        .path.display()
    )]
    OtherFile {
        path: PathBuf,
        there: u64,
        size: u64,
    },
    /// An upload did not come to its end.
    #[error("{cause}")]
    Upload {
        /// What goes on with it, and what gives it up.
        resume: String,
        cause: Box<CliError>,
    },
    #[error("the answer cannot be understood: {0}")]
    Answer(String),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// How a call was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) request: MessageDescriptor,
    /// The conditions of a query, as they were written.
    pub(crate) conditions: Vec<String>,
}

impl Asked {
    /// A field of the request, as the command line has it.
    fn label(&self, name: &str) -> String {
        let nth = name.strip_prefix("conditions[");
        let nth = nth.and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        if let Some(written) = nth.and_then(|nth| self.conditions.get(nth)) {
            return written.clone();
        }
        if let Some(field) = field(&self.request, name) {
            return flag::label(&field);
        }
        let part = name.split(['[', '.']).next().unwrap_or_default();
        let flag = action::query_field(&self.request).and_then(|_| query::flag_of(part));
        flag.map_or_else(|| name.to_owned(), |flag| format!("--{flag}"))
    }
}

/// What is known of a call whose end was not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It became an operation, which goes on.
    Operation(String),
    /// It was sent with this key; what became of it is not known.
    Unknown { key: String },
    /// It changes nothing.
    Read,
}

impl Outcome {
    fn hint(&self) -> String {
        match self {
            Self::Operation(uuid) => format!(
                "operation {uuid} goes on: `cairn operation watch {uuid}` follows it, \
                 `cairn operation cancel {uuid}` ends it"
            ),
            Self::Unknown { key } => format!(
                "whether it was accepted is not known: the same command with \
                 `--idempotency-key {key}` attaches to it"
            ),
            Self::Read => "try again".to_owned(),
        }
    }
}

impl CliError {
    /// The server's refusal of a call of which nothing more is to be said.
    pub(crate) fn called(status: &Status) -> Self {
        Self::Called {
            fault: Box::new(Fault::from_status(status)),
            request: None,
            operation: None,
        }
    }

    /// 1 for a call that failed, 2 for a command that was not sent because it is wrong.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NoCredential { .. }
            | Self::CredentialFile { .. }
            | Self::Credential { .. }
            | Self::Token
            | Self::IdempotencyKey
            | Self::Endpoint { .. } => 2,
            Self::Upload { cause, .. } => cause.exit_code(),
            Self::File { .. } | Self::OtherFile { .. } => 2,
            _ => 1,
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Called { fault, .. } => (**fault).clone(),
            Self::Upload { cause, .. } => cause.fault(),
            other => Fault::of(other),
        }
    }

    fn operation(&self) -> Option<&str> {
        match self {
            Self::Called { operation, .. } => operation.as_deref(),
            Self::Lost {
                outcome: Outcome::Operation(uuid),
                ..
            }
            | Self::Interrupted(Outcome::Operation(uuid)) => Some(uuid),
            _ => None,
        }
    }

    /// The wrong fields as the command line names them, with what is wrong.
    fn flags(&self) -> Vec<(String, String)> {
        let Self::Called { fault, request, .. } = self else {
            return Vec::new();
        };
        let label = |name: &str| {
            let asked = request.as_ref();
            asked.map_or_else(|| name.to_owned(), |asked| asked.label(name))
        };
        let fields = fault.fields.iter();
        fields
            .map(|(name, problem)| (label(name), problem.clone()))
            .collect()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Usage(text) => return text.trim_end().to_owned() + "\n",
            Self::Interrupted(_) => return format!("{self}\n"),
            Self::Upload { cause, resume } => return format!("{}  {resume}\n", cause.text()),
            _ => {}
        }
        let fault = self.fault();
        let mut text = format!("error: {}: {}\n", fault.code, fault.message);
        let flags = self.flags();
        if !flags.is_empty() {
            // The message of such a fault says the same with the names of the fields.
            text = format!("error: {}\n", fault.code);
        }
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "  {label}: {value}");
        };
        for (flag, problem) in &flags {
            line(flag, problem);
        }
        if let Some((noun, uuid)) = &fault.resource {
            line("resource", &format!("{noun} {uuid}"));
        }
        for cause in &fault.causes {
            line("cause", cause);
        }
        if !fault.rolled_back.is_empty() {
            line("rolled back", &fault.rolled_back.join(", "));
        }
        if let Some(operation) = self.operation() {
            line("operation", operation);
        }
        line("help", fault.code.help());
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        if let Self::Upload { cause, resume } = self {
            let mut json = cause.json();
            json["resume"] = resume.as_str().into();
            return json;
        }
        let fault = self.fault();
        let fields: Vec<_> = fault
            .fields
            .iter()
            .zip(self.flags())
            .map(|((field, problem), (flag, _))| json!({"field": field, "flag": flag, "problem": problem}))
            .collect();
        let resource = fault
            .resource
            .map(|(noun, uuid)| json!({"type": noun, "uuid": uuid}));
        let message = &fault.message;
        // The parser's own texts begin like ours.
        let message = message.strip_prefix("error: ").unwrap_or(message);
        json!({
            "code": fault.code.as_str(),
            "message": message.trim_end(),
            "resource": resource,
            "fields": fields,
            "causes": fault.causes,
            "rolledBack": fault.rolled_back,
            "operation": self.operation(),
            "help": fault.code.help(),
        })
    }
}

/// The field of a request that a fault names, in either spelling.
fn field(request: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    let by_json = || request.get_field_by_json_name(name);
    request.get_field_by_name(name).or_else(by_json)
}

impl Coded for CliError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Usage(_)
            | Self::Endpoint { .. }
            | Self::IdempotencyKey
            | Self::File { .. }
            | Self::OtherFile { .. } => ErrorCode::InvalidArgument,
            Self::Upload { cause, .. } => cause.code(),
            Self::NoCredential { .. }
            | Self::CredentialFile { .. }
            | Self::Credential { .. }
            | Self::Token => ErrorCode::Unauthenticated,
            Self::Called { fault, .. } => fault.code,
            Self::Connect { .. } | Self::Silent { .. } | Self::Lost { .. } => {
                ErrorCode::Unavailable
            }
            Self::Interrupted(_) => ErrorCode::Cancelled,
            Self::Descriptors { .. } | Self::Answer(_) | Self::Output(_) => ErrorCode::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::meta::Catalog;

    use super::*;

    fn called() -> CliError {
        let pool = Catalog::built_in();
        let request = "cairn.compute.v1alpha1.UpdateZoneRequest";
        let fault = Fault {
            causes: vec!["connection refused".into()],
            rolled_back: vec!["allocate-nic".into(), "allocate-host".into()],
            ..Fault::fields(vec![
                ("name".into(), "is empty; give 1 to 255 characters".into()),
                ("uuid".into(), "is not a uuid".into()),
                ("elsewhere[0]".into(), "is odd".into()),
            ])
            .on("zone", "z1")
        };
        CliError::Called {
            // Over the wire: what a status carries is all that is shown.
            fault: Box::new(Fault::from_status(&fault.into())),
            request: Some(Asked {
                request: pool.pool().get_message_by_name(request).unwrap(),
                conditions: Vec::new(),
            }),
            operation: Some("o1".into()),
        }
    }

    #[test]
    fn a_fault_is_told_to_people() {
        let expected = "\
error: INVALID_ARGUMENT
  --name: is empty; give 1 to 255 characters
  UUID: is not a uuid
  elsewhere[0]: is odd
  resource: zone z1
  cause: connection refused
  rolled back: allocate-nic, allocate-host
  operation: o1
  help: A field of the request is wrong; the details name each field and what would be right.
";
        assert_eq!(called().text(), expected);
        let plain = CliError::called(&Fault::not_found("zone", "z").into());
        assert!(
            plain
                .text()
                .starts_with("error: NOT_FOUND: there is no zone z\n")
        );
    }

    #[test]
    fn a_fault_is_told_to_programs() {
        let json = called().json();
        assert_eq!(json["code"], "INVALID_ARGUMENT");
        assert_eq!(json["fields"][0]["flag"], "--name");
        assert_eq!(json["fields"][1]["field"], "uuid");
        assert_eq!(json["rolledBack"][1], "allocate-host");
        assert_eq!(json["resource"]["type"], "zone");
        assert_eq!(json["operation"], "o1");
    }

    #[test]
    fn an_operation_that_goes_on_is_said_to() {
        let error = CliError::Interrupted(Outcome::Operation("o1".into()));
        assert!(error.text().contains("`cairn operation watch o1`"));
        assert_eq!(error.json()["operation"], "o1");
        let error = CliError::Interrupted(Outcome::Unknown { key: "k".into() });
        assert!(error.text().contains("--idempotency-key k"));
    }
}
