//! Cascades: what has to be done with what is done to a resource, and how it is done.
//!
//! A resource joins by what its proto says of its references, and needs no code for it: [`find`]
//! follows the references of rows from one resource to all that something becomes of, and
//! [`Found::execute`] has their services do it, what is below first.
//!
//! # An edge
//!
//! What becomes of a resource when the one that it refers to is deleted is said where the reference
//! is declared, by `on_delete`. Of several, the strongest happens, once: DELETE, STOP, DETACH, CLEAR.
//! Here are lamps on a shelf, of which each has a bulb as a part:
//!
//! ```
//! use std::sync::Arc;
//!
//! use cairn_proto::meta::Catalog;
//! use cairn_testkit::{Database, TestStore, proto_set, tables_of};
//! use prost_reflect::{DynamicMessage, Value};
//!
//! const PROTO: &str = r#"
//!     syntax = "proto3";
//!     package home.v1;
//!     import "cairn/meta/v1alpha1/annotations.proto";
//!     import "google/protobuf/timestamp.proto";
//!
//!     message Shelf {
//!       option (cairn.meta.v1alpha1.resource) = { name: "shelf" plural: "shelves" };
//!       string uuid = 1; string name = 2; string description = 3; string account_uuid = 4;
//!       google.protobuf.Timestamp create_time = 5;
//!       google.protobuf.Timestamp last_operation_time = 6;
//!     }
//!
//!     enum LampState { LAMP_STATE_UNSPECIFIED = 0; LAMP_STATE_ON = 1; LAMP_STATE_OFF = 2; }
//!
//!     message Lamp {
//!       option (cairn.meta.v1alpha1.resource) = { name: "lamp" plural: "lamps" };
//!       string uuid = 1; string name = 2; string description = 3; string account_uuid = 4;
//!       google.protobuf.Timestamp create_time = 5;
//!       google.protobuf.Timestamp last_operation_time = 6;
//!       // Switched off when the shelf goes, and on no shelf afterwards: so it is optional.
//!       optional string shelf_uuid = 10 [(cairn.meta.v1alpha1.field) = {
//!         references: "shelf"
//!         on_delete: ON_DELETE_STOP
//!       }];
//!       LampState state = 11;
//!     }
//!
//!     message Request { string uuid = 1; }
//!     service LampService {
//!       rpc DeleteLamp(Request) returns (Request);
//!       // The rpc by which a lamp is stopped, and which lamps need none of it.
//!       rpc SwitchLampOff(Request) returns (Request) {
//!         option (cairn.meta.v1alpha1.rpc).stops = { field: "state" stopped: "Off" };
//!       }
//!     }
//! "#;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let catalog = Arc::new(Catalog::with(&[&proto_set(PROTO)])?);
//! let types = ["shelf", "lamp"].map(|noun| catalog.resource(noun).cloned());
//! let [Some(shelf), Some(lamp)] = types else { panic!("both are resources") };
//! let tables = tables_of([&*shelf, &*lamp]);
//! let store = TestStore::with(Database::Sqlite, Arc::clone(&catalog), &[tables]).await;
//!
//! let mut rows = Vec::new();
//! for (resource, uuid, state) in [(&shelf, "s", 0), (&lamp, "on", 1), (&lamp, "off", 2)] {
//!     let mut row = DynamicMessage::new(resource.message.clone());
//!     row.set_field_by_name("uuid", Value::String(uuid.to_owned()));
//!     row.set_field_by_name("name", Value::String(format!("the {uuid}")));
//!     if state > 0 {
//!         row.set_field_by_name("shelf_uuid", Value::String("s".to_owned()));
//!         row.set_field_by_name("state", Value::EnumNumber(state));
//!     }
//!     rows.push((Arc::clone(resource), row));
//! }
//! let found = store.write(move |tx| {
//!     let rows = rows.clone();
//!     Box::pin(async move {
//!         for (resource, row) in &rows {
//!             tx.insert_dynamic(resource, row).await?;
//!         }
//!         cairn_cascade::find(tx, "shelf", "s").await
//!     })
//! });
//! let content = found.await?.content();
//! let items = content.items.iter().map(|item| (item.name.as_str(), item.action().as_str_name()));
//! assert_eq!(items.collect::<Vec<_>>(), [
//!     ("the s", "CASCADE_ACTION_DELETE"),
//!     // It is off already, so it only loses the reference.
//!     ("the off", "CASCADE_ACTION_CLEAR"),
//!     ("the on", "CASCADE_ACTION_STOP"),
//! ]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! What else there is to declare:
//!
//! | to say | declare |
//! |---|---|
//! | it goes with the other one | `on_delete: ON_DELETE_DELETE` |
//! | it is a part of the other one, whose deletion removes it | `on_delete: ON_DELETE_PART` |
//! | it is taken out of what it is a part of | `on_delete: ON_DELETE_DETACH`, and `detaches` at the rpc that does it |
//! | its whole is stopped before that | `on_detach: ON_DELETE_STOP`, at the reference to the whole |
//! | it is stopped, or loses the reference | `ON_DELETE_STOP`, `ON_DELETE_CLEAR`; the field is `optional` |
//! | another operation than a deletion concerns it | `on: { operation: "maintenance" action: ON_DELETE_STOP }`, and `cascades: "maintenance"` at the rpc |
//! | it needs one to which it does not refer | `dependents`, at the one that is needed, by paths as in a query |
//! | which rpc deletes it, if that is not `Delete` with its name | `deletes`, at the rpc |
//! | it goes after others that it does not refer to | `deleted_after` |
//!
//! What is wrong in there is found when the descriptors are read, at the start of a node.
//!
//! # Carrying it out
//!
//! Who executes marks everything first ([`Found::mark`]), in the transaction in which it was found:
//! from then on nothing new can refer to what goes, nobody starts what is stopped, and what was
//! shown is all that happens. References that are cleared become NULL in the transaction that
//! deletes what they refer to, so none is lost for a deletion that fails.
//!
//! ```no_run
//! use cairn_cascade::find;
//! use cairn_operation::OperationContext;
//! use cairn_proto::{call::Mesh, cascade::v1alpha1::CascadeMode, fault::Fault};
//!
//! # async fn example(mesh: &Mesh, cx: &OperationContext, zone: String) -> Result<(), Fault> {
//! let found = cx.store().write(move |tx| {
//!     let zone = zone.clone();
//!     Box::pin(async move {
//!         let found = find(tx, "zone", &zone).await?;
//!         found.mark(tx, "the uuid of the plan").await?;
//!         Ok::<_, Fault>(found)
//!     })
//! });
//! // Permissive, the first failure ends it; enforcing, it goes on and says what it left.
//! let executed = found.await?.execute(mesh, cx, CascadeMode::Enforcing).await?;
//! for failure in executed.failures {
//!     println!("{}: {}", failure.code, failure.message);
//! }
//! # Ok(()) }
//! ```
//!
//! What is absent on purpose: edges in code. What the descriptors do not say, nobody would see in a
//! plan.

mod act;
mod error;
mod execute;
mod find;
mod left;
mod order;
mod read;
mod tree;

pub use error::CascadeError;
pub use execute::Executed;
pub use find::{Found, find, find_for};

#[cfg(test)]
mod tests;
