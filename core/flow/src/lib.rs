//! Durable workflows: steps that run, roll back, and survive the process.
//!
//! A [`Flow`] is named [`Step`]s over a [`Bag`] of messages. A handler runs it for its operation.
//! What a step changes in the database commits together with its outcome; what it does outside of
//! it is announced by an intent in the commit before, and carries an id made of operation, step
//! and direction, so that a repeat is known as a repeat. When a step fails, it and those before it
//! are rolled back in reverse order. After a crash the operation's handler runs again, the flow
//! finds its log and goes on from there, in the direction it was going.
//!
//! Commits of a flow of N steps: N, or N + 1 if the first has an effect outside; the last one is
//! also that of the operation's end.
//!
//! # A flow in code
//!
//! A step is a type. One that changes rows only puts them into its [`Outcome`]; one that does
//! something outside says so, and does it under [`StepContext::task`].
//!
//! ```
//! use async_trait::async_trait;
//! use cairn_flow::{Bag, Flow, FlowError, Options, Outcome, Part, Step, StepContext};
//! use cairn_operation::{Ended, OperationContext};
//! use cairn_proto::{
//!     compute::v1alpha1::{CreateZoneRequest, Zone},
//!     fault::Fault,
//! };
//!
//! const REQUEST: &str = "cairn.compute.v1alpha1.CreateZoneRequest";
//! const ZONE: &str = "cairn.compute.v1alpha1.Zone";
//!
//! struct MakeRow;
//!
//! #[async_trait]
//! impl Step for MakeRow {
//!     fn name(&self) -> &'static str {
//!         "make-row"
//!     }
//!
//!     fn needs(&self) -> &'static [&'static str] {
//!         &[REQUEST]
//!     }
//!
//!     fn provides(&self) -> &'static [&'static str] {
//!         &[ZONE]
//!     }
//!
//!     async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
//!         let request: CreateZoneRequest = cx.get()?;
//!         Ok(Outcome::rows(move |tx| {
//!             let (uuid, name) = (request.uuid.clone(), request.name.clone());
//!             Box::pin(async move {
//!                 let zone = Zone { uuid, name, ..Zone::default() };
//!                 tx.insert(&zone).await?;
//!                 Ok(Bag::of(&zone))
//!             })
//!         }))
//!     }
//!
//!     async fn rollback(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
//!         // The row is one commit with the outcome: without it there is none.
//!         let Some(zone) = cx.find::<Zone>() else {
//!             return Ok(Outcome::none());
//!         };
//!         Ok(Outcome::rows(move |tx| {
//!             let uuid = zone.uuid.clone();
//!             Box::pin(async move {
//!                 tx.delete::<Zone>(&uuid).await?;
//!                 Ok(Bag::new())
//!             })
//!         }))
//!     }
//! }
//!
//! /// Tells somebody outside of the database.
//! struct Announce;
//!
//! #[async_trait]
//! impl Step for Announce {
//!     fn name(&self) -> &'static str {
//!         "announce"
//!     }
//!
//!     fn needs(&self) -> &'static [&'static str] {
//!         &[ZONE]
//!     }
//!
//!     fn outside(&self) -> bool {
//!         true
//!     }
//!
//!     fn options(&self) -> Options {
//!         Options::default().timeout(std::time::Duration::from_secs(10)).no_rollback()
//!     }
//!
//!     async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
//!         println!("{} under {}", cx.get::<Zone>()?.name, cx.task());
//!         Ok(Outcome::none())
//!     }
//! }
//!
//! let flow = Flow::builder("create-zone")
//!     .step(MakeRow)
//!     .step(Part::group("tell", [Part::from(Announce), Part::from(Announce).named("again")]))
//!     .build(&[REQUEST])?;
//!
//! // In the handler of the rpc:
//! async fn run(
//!     flow: &Flow,
//!     cx: &OperationContext,
//!     request: CreateZoneRequest,
//! ) -> Result<Ended<Zone>, Fault> {
//!     let done = flow.run(cx, Bag::of(&request), |_, bag| {
//!         let zone = bag.get::<Zone>().unwrap_or_default();
//!         Box::pin(async move { Ok(zone) })
//!     });
//!     done.await
//! }
//! # Ok::<(), FlowError>(())
//! ```
//!
//! # Other ways to a flow
//!
//! Which step follows which may be a matter of files: see [`Registry`]. Work that leaves nothing
//! outside of the process is done by an [`Ephemeral`] flow of closures, which keeps no log. What
//! is to be written with the end of a flow, whichever it is, is a [`Hook`].
//!
//! What cannot be rolled back, or cannot be finished past the point of no return, becomes a job in
//! the commit that ends the operation; [`Gc`] goes on with it until it is done.

mod bag;
mod check;
mod condition;
mod declare;
mod engine;
mod ephemeral;
mod error;
mod flow;
pub mod gc;
mod graph;
mod hook;
mod log;
mod options;
mod outcome;
mod part;
mod step;
mod view;

use cairn_store::Migration;

pub use bag::Bag;
pub use declare::{Flows, Mistake, Registry, WrongFlows};
pub use ephemeral::Ephemeral;
pub use error::FlowError;
pub use flow::{Builder, Flow, FlowStep};
pub use gc::Gc;
pub use hook::{End, Hook, When};
pub use options::{Options, Retry};
pub use outcome::Outcome;
pub use part::Part;
pub use step::{Direction, Step, StepContext};
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
    Migration {
        service: "flow",
        number: 3,
        name: "flow record",
        sql: include_str!("../migrations/0003_flow_record.sql"),
    },
];

/// The tables whose rows belong to operations: for `cairn_operation::Builder::logs`.
pub const TABLES: &[&str] = &["flow_record", "flow_log", "flow_run"];

#[cfg(test)]
mod tests;
