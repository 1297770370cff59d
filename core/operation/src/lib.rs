//! The life of a mutating call: accepted, queued, run, ended, watched, cancelled, recovered.
//!
//! A service declares a [`Handler`] for each mutating rpc and hands the call to
//! [`Operations::accept`]. From there on the call is an operation: its row is committed before
//! the caller hears `accepted`, its task enters the queue in the order of the commits, and it
//! ends whatever happens to the caller or the process. After a start, [`Operations::recover`]
//! takes up what had not ended.
//!
//! What is absent on purpose: a way to end an operation outside of a transaction with what it
//! changed. An [`Ended`], which every handler returns, comes from [`OperationContext::finish`],
//! or from the flow engine by [`OperationContext::commit`].

mod acceptor;
mod context;
mod ending;
mod error;
mod failpoint;
mod handler;
mod keyed;
mod live;
mod metrics;
mod operations;
mod recover;
mod resume;
mod row;
mod run;
mod time;

use cairn_store::Migration;

pub use context::{Committed, OperationContext, Verdict};
pub use ending::{Ended, Ending, decode_fault, encode_fault};
pub use error::OperationError;
pub use failpoint::{At, Failpoints, Point, Then};
pub use handler::{Handler, Queue, ResultOf, method};
pub use keyed::KeyedHandler;
pub use operations::{Builder, Events, KEPT, Operations};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "operation",
    number: 1,
    name: "operation",
    sql: include_str!("../migrations/0001_operation.sql"),
}];

#[cfg(test)]
mod tests;
