//! Cascades: what has to go with a resource, and how it goes.
//!
//! A resource joins by what its proto says of its references (`on_delete`), and needs no code for
//! it: [`find`] follows the references of rows from one resource to all that have to go with it,
//! and [`Found::delete`] has their services delete them, what is below first. A type that has no
//! rpc to delete is only rows, or a part of something; its rows are deleted here.
//!
//! ```no_run
//! use cairn_cascade::{CascadeError, find};
//! use cairn_store::Store;
//!
//! # async fn example(store: &Store, zone: String) -> Result<(), CascadeError> {
//! let found = store.write(move |tx| {
//!     let zone = zone.clone();
//!     Box::pin(async move { find(tx, "zone", &zone).await })
//! });
//! for item in found.await?.content().items {
//!     println!("{:1$}{2} {3}", "", 2 * item.depth as usize, item.resource_type, item.name);
//! }
//! # Ok(()) }
//! ```
//!
//! Who executes marks everything first ([`Found::mark`]), in the transaction in which it was found:
//! from then on nothing new can come below, so what was shown is all that goes.
//!
//! What is absent on purpose: edges in code. What the descriptors do not say, nobody would see in a
//! plan.

mod act;
mod error;
mod execute;
mod find;
mod order;
mod read;
mod tree;

pub use error::CascadeError;
pub use execute::Executed;
pub use find::{Found, find, find_for};

#[cfg(test)]
mod tests;
