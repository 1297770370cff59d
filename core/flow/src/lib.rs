//! Durable workflows: steps that run, roll back, and survive the process.
//!
//! A [`Flow`] is a list of named [`Step`]s over a [`Bag`] of messages. A handler runs it for its
//! operation. What a step changes in the database commits together with its outcome; what it does
//! outside of it is announced by an intent in the commit before, and carries an id made of
//! operation, step and direction, so that a repeat is known as a repeat. When a step fails, it and
//! those before it are rolled back in reverse order. After a crash the operation's handler runs
//! again, the flow finds its log and goes on from there, in the direction it was going.
//!
//! Commits of a flow of N steps: N, or N + 1 if the first has an effect outside; the last one is
//! also that of the operation's end.
//!
//! What cannot be rolled back, or cannot be finished past the point of no return, becomes a job in
//! the commit that ends the operation; [`Gc`] goes on with it until it is done.
//!
//! What is absent, on purpose: two steps at once.

mod bag;
mod engine;
mod error;
mod flow;
pub mod gc;
mod log;
mod step;
mod view;

use cairn_store::Migration;

pub use bag::Bag;
pub use error::FlowError;
pub use flow::{Builder, Flow, Retry};
pub use gc::Gc;
pub use step::{Direction, Outcome, Step, StepContext};
pub use view::steps;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "flow",
        number: 1,
        name: "flow",
        sql: include_str!("../migrations/0001_flow.sql"),
    },
    Migration {
        service: "flow",
        number: 2,
        name: "gc job",
        sql: include_str!("../migrations/0002_gc_job.sql"),
    },
];

/// The tables whose rows belong to operations: for `cairn_operation::Builder::logs`.
pub const TABLES: &[&str] = &["flow_log", "flow_run"];

#[cfg(test)]
mod tests;
