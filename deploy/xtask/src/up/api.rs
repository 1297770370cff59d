//! The public API, by the command line that people have.

use serde_json::Value;

use crate::{
    command::{command, hear},
    error::XtaskError,
};

use super::{cloud::Cloud, programs::Programs};

/// How long a call may take, in seconds; an operation that it began goes on.
const LIMIT_SECS: u32 = 180;

/// A client with the administrator's credential.
#[derive(Debug)]
pub(crate) struct Api {
    program: String,
    credential: String,
}

impl Api {
    pub(crate) fn new(cloud: &Cloud, programs: &Programs) -> Self {
        Self {
            program: programs.cli().display().to_string(),
            credential: cloud.credential().display().to_string(),
        }
    }

    /// Calls with these words; gives the answer.
    pub(crate) fn call(&self, words: &[&str]) -> Result<Value, XtaskError> {
        self.call_within(LIMIT_SECS, words)
    }

    pub(crate) fn call_within(&self, secs: u32, words: &[&str]) -> Result<Value, XtaskError> {
        let secs = secs.to_string();
        let mut command = command("timeout", &[&secs, &self.program]);
        command.args(words);
        command.args(["--json", "--credential", &self.credential]);
        let answer = hear(&mut command).map_err(|error| match error {
            XtaskError::Said {
                status,
                words: said,
                ..
            } => XtaskError::Said {
                command: format!("cairn {}", words.join(" ")),
                status,
                words: message(&said),
            },
            error => error,
        })?;
        serde_json::from_str(&answer).map_err(|cause| XtaskError::Parse {
            what: format!("the answer of `cairn {}`", words.join(" ")),
            cause: cause.into(),
        })
    }

    /// The resources that fulfil the conditions.
    pub(crate) fn query(&self, noun: &str, conditions: &[&str]) -> Result<Vec<Value>, XtaskError> {
        let words = [&["query", noun], conditions].concat();
        Ok(rows(self.call(&words)?))
    }

    /// The resource of that name, if there is one.
    pub(crate) fn named(&self, noun: &str, name: &str) -> Result<Option<Value>, XtaskError> {
        let mut found = self.query(noun, &[&format!("name={name}")])?;
        Ok((!found.is_empty()).then(|| found.remove(0)))
    }

    /// The resource of that name, which must be there.
    pub(crate) fn expect(&self, noun: &str, name: &str) -> Result<Value, XtaskError> {
        self.named(noun, name)?
            .ok_or_else(|| XtaskError::Refused(format!("there is no {noun} {name}")))
    }
}

/// A field of an answer that is a text; empty if it is absent.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// What an error of the command line says. It has said nothing if it ran out of time.
fn message(said: &str) -> String {
    let error: Value = serde_json::from_str(said).unwrap_or_default();
    match (text(&error, "code"), text(&error, "message")) {
        ("", _) if said.is_empty() => "no answer in time".to_owned(),
        ("", _) => said.to_owned(),
        (code, message) => format!("{code}: {message}"),
    }
}

/// The rows of a query's answer: its only list. No rows, no list.
fn rows(answer: Value) -> Vec<Value> {
    let Value::Object(fields) = answer else {
        return Vec::new();
    };
    let mut lists = fields.into_iter().filter_map(|(_, value)| match value {
        Value::Array(rows) => Some(rows),
        _ => None,
    });
    lists.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_is_told_in_a_line() {
        let said = json!({"code": "IN_USE", "message": "zone 1 is in use"}).to_string();
        for (said, expected) in [
            (said.as_str(), "IN_USE: zone 1 is in use"),
            ("error: 7", "error: 7"),
            ("", "no answer in time"),
        ] {
            assert_eq!(message(said), expected);
        }
    }

    #[test]
    fn rows_are_found_under_whatever_name() {
        assert_eq!(rows(json!({})), Vec::<Value>::new());
        let found = rows(json!({"vmNics": [{"ip": "10.0.0.2"}], "total": "1"}));
        assert_eq!(text(&found[0], "ip"), "10.0.0.2");
        assert_eq!(text(&found[0], "mac"), "");
    }
}
