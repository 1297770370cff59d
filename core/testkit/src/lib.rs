//! What tests share: databases of their own, waiting for states, protos compiled on the spot, a
//! collector of traces, SFTP servers.

mod collector;
mod postgres;
mod proto;
mod sftp;
mod sshd;
mod store;
mod wait;

pub use collector::{Collector, Exported};
pub use postgres::PostgresServer;
pub use proto::proto_set;
pub use sftp::SftpServer;
pub use sshd::Sshd;
pub use store::{Database, TestDatabase, TestStore, tables_of};
pub use wait::{wait_for, wait_until};
