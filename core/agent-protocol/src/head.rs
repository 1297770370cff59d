//! The headers of a command: what the wire needs to know, apart from what the command says.

use std::{fmt::Display, str::FromStr, time::Duration};

use crate::Moment;
use cairn_types::{OperationUuid, TaskUuid, Uuid};

/// Names of the headers.
pub mod header {
    /// The task's uuid; a repeat carries the same one.
    pub const TASK: &str = "cairn-task";
    /// The operation that the task belongs to.
    pub const OPERATION: &str = "cairn-operation";
    /// The resource; commands of one resource run one at a time on an agent.
    pub const RESOURCE: &str = "cairn-resource";
    /// The fencing token; an agent refuses one lower than the highest it saw for the resource.
    pub const TOKEN: &str = "cairn-token";
    /// The command's time limit, in milliseconds from its arrival.
    pub const TIMEOUT_MS: &str = "cairn-timeout-ms";
    /// Base URLs to report the outcome to, separated by commas, the preferred first.
    pub const CALLBACK: &str = "cairn-callback";
    /// The last [`Moment`](crate::Moment) of the host that the sender has heard; absent if it has
    /// heard none. A command that does not know of all that happened to its resource begins nothing: it
    /// is answered with 412.
    pub const SEEN: &str = "cairn-seen";
    /// The [`Moment`](crate::Moment) of a run of the same task whose outcome the sender has committed:
    /// the agent may forget it, and the command asks for a run of its own. Absent if there is none.
    pub const AFTER: &str = "cairn-after";
    /// In the agent's answers: the host's present [`Moment`](crate::Moment).
    pub const MOMENT: &str = "cairn-moment";
    /// The trace that the command belongs to, a W3C `traceparent`; may be absent.
    pub const TRACEPARENT: &str = "traceparent";
}

/// The head of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHead {
    /// See [`header::TASK`].
    pub task: TaskUuid,
    /// See [`header::OPERATION`].
    pub operation: OperationUuid,
    /// See [`header::RESOURCE`].
    pub resource: Uuid,
    /// See [`header::TOKEN`].
    pub token: u64,
    /// See [`header::TIMEOUT_MS`].
    pub timeout: Duration,
    /// See [`header::CALLBACK`].
    pub callbacks: Vec<String>,
    /// See [`header::SEEN`].
    pub seen: Option<Moment>,
    /// See [`header::AFTER`].
    pub after: Option<Moment>,
    /// See [`header::TRACEPARENT`]. What is in it is not checked: who does not know it passes it
    /// over.
    pub traceparent: Option<String>,
}

/// A header that is absent or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The header is absent.
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    /// The header's value is no such value.
    #[error("the header `{name}` is not valid: `{value}`")]
    Invalid {
        /// The header.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl CommandHead {
    /// The headers.
    #[must_use]
    pub fn to_headers(&self) -> Vec<(&'static str, String)> {
        let optional = [
            (header::SEEN, self.seen.map(String::from)),
            (header::AFTER, self.after.map(String::from)),
            (header::TRACEPARENT, self.traceparent.clone()),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        [
            (header::TASK, self.task.to_string()),
            (header::OPERATION, self.operation.to_string()),
            (header::RESOURCE, self.resource.to_string()),
            (header::TOKEN, self.token.to_string()),
            (header::TIMEOUT_MS, self.timeout.as_millis().to_string()),
            (header::CALLBACK, self.callbacks.join(",")),
        ]
        .into_iter()
        .chain(optional)
        .collect()
    }

    /// Reads the headers; `get` gives the value of one.
    ///
    /// # Errors
    /// If one is absent or malformed.
    pub fn from_headers<'a>(
        get: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Result<Self, HeadError> {
        let text = |name| get(name).ok_or(HeadError::Missing(name));
        let callbacks = text(header::CALLBACK)?;
        let moment = |name| get(name).map(|text| value(name, text)).transpose();
        Ok(Self {
            task: value(header::TASK, text(header::TASK)?)?,
            operation: value(header::OPERATION, text(header::OPERATION)?)?,
            resource: value(header::RESOURCE, text(header::RESOURCE)?)?,
            token: value(header::TOKEN, text(header::TOKEN)?)?,
            timeout: Duration::from_millis(value(header::TIMEOUT_MS, text(header::TIMEOUT_MS)?)?),
            callbacks: callbacks
                .split(',')
                .filter(|url| !url.is_empty())
                .map(str::to_owned)
                .collect(),
            seen: moment(header::SEEN)?,
            after: moment(header::AFTER)?,
            traceparent: get(header::TRACEPARENT).map(str::to_owned),
        })
    }
}

fn value<T: FromStr<Err: Display>>(name: &'static str, text: &str) -> Result<T, HeadError> {
    text.parse().map_err(|_| HeadError::Invalid {
        name,
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> CommandHead {
        CommandHead {
            task: TaskUuid::generate(),
            operation: OperationUuid::generate(),
            resource: Uuid::from_u128(7),
            token: u64::MAX,
            timeout: Duration::from_millis(1500),
            callbacks: vec!["https://a:1".to_owned(), "https://b:2".to_owned()],
            seen: None,
            after: None,
            traceparent: None,
        }
    }

    #[test]
    fn a_head_survives_the_wire() {
        let whole = CommandHead {
            seen: Some(Moment {
                incarnation: Uuid::from_u128(9),
                count: 3,
            }),
            after: Some(Moment::start(Uuid::from_u128(9))),
            traceparent: Some("00-1-2-01".to_owned()),
            ..head()
        };
        for head in [head(), whole] {
            let headers = head.to_headers();
            let get = |name| {
                headers
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.as_str())
            };
            assert_eq!(CommandHead::from_headers(get), Ok(head));
        }
    }

    #[test]
    fn a_missing_or_malformed_header_is_named() {
        let headers = head().to_headers();
        for (bad, _) in &headers {
            let get = |name: &str| headers.iter().find(|(n, _)| *n == name && n != bad);
            assert_eq!(
                CommandHead::from_headers(|name| get(name).map(|(_, v)| v.as_str())),
                Err(HeadError::Missing(bad))
            );
        }
        for bad in [header::TOKEN, header::SEEN, header::AFTER] {
            let get = |name: &str| {
                let header = headers.iter().find(|(n, _)| *n == name);
                Some(match header {
                    _ if name == bad => "-1",
                    header => &header?.1,
                })
            };
            assert_eq!(
                CommandHead::from_headers(get),
                Err(HeadError::Invalid {
                    name: bad,
                    value: "-1".to_owned()
                })
            );
        }
    }
}
