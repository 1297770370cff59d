//! Where on either listener which message goes.

/// On the agent: `POST <this>/<command name>`.
pub const COMMANDS: &str = "/v1/commands";
/// On the agent: `GET`, answers with a [`Pong`](crate::Pong).
pub const PING: &str = "/v1/ping";
/// On the node: `POST` an [`OutcomeReport`](crate::OutcomeReport).
pub const OUTCOMES: &str = "/v1/outcomes";
/// On the node: `POST` a [`Hello`](crate::Hello).
pub const HELLO: &str = "/v1/hello";
/// On the node: `POST` a [`Changed`](crate::Changed).
pub const CHANGED: &str = "/v1/changed";
