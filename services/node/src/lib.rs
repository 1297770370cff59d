//! The server process of Cairn: links every service, and runs those that its configuration
//! names. One node on one machine is a whole cloud.
//!
//! [`Node::start`] returns when the node serves, [`Node::stop`] when it has stopped; the binary
//! `cairn-node` adds the configuration file, telemetry and signals.

mod config;
mod node;

pub use config::{
    CallbackConfig, Config, DatabaseConfig, DatabaseUrl, DeletionConfig, FlowsConfig, HostsConfig,
    LimitsConfig, PolicyName, PublicConfig, ServiceName,
};
pub use node::{Additions, Node, NodeError, check};
