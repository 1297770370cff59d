//! The database: migrations, transactions, and rows of any resource from its descriptor.
//!
//! A resource needs a table and no code: its columns are the fields of its message, and a row is
//! made from the encoded message by the descriptor's numbers and kinds. That holds for a
//! generated type as for a plugin's, which is known at run time only.
//!
//! [`Store::write`] is the only way to change anything. Its closure touches nothing but the
//! transaction; what it reads there is what it changes:
//!
//! ```no_run
//! use cairn_proto::compute::v1alpha1::Zone;
//! use cairn_store::{Store, StoreError};
//!
//! # async fn example(store: &Store, uuid: String) -> Result<(), StoreError> {
//! let renamed = store.write(move |tx| {
//!     let uuid = uuid.clone();
//!     Box::pin(async move {
//!         let Some(zone) = tx.get::<Zone>(&uuid).await? else { return Ok(false) };
//!         tx.update(&Zone { name: "west".to_owned(), ..zone }).await
//!     })
//! });
//! let was_there: Result<bool, StoreError> = renamed.await;
//! # was_there.map(drop) }
//! ```
//!
//! The database is SQLite in the data directory or a PostgreSQL server; which of the two changes
//! nothing in what a statement finds or a write keeps. Statements are written for both, with `?`
//! for values: texts compare byte by byte, LIKE does not tell `A` from `a` (only these 26), a text
//! has no zero character and a double is a number. There are no foreign keys: each table belongs to
//! one service, and services may stand on different machines.

mod config;
mod database;
mod error;
mod going;
mod migration;
mod postgres;
mod readers;
mod schema;
mod sqlite;
mod store;
mod tables;
mod tx;
mod value;
mod wire;
mod writer;

pub use config::{DatabaseConfig, PostgresConfig, StoreConfig, WrongConfig};
pub use error::{Cause, StoreError};
pub use futures::future::BoxFuture;
pub use migration::Migration;
pub use schema::create_table_sql;
pub use store::Store;
pub use tx::Tx;
pub use value::{Row, Value};
pub use wire::encode_row;
