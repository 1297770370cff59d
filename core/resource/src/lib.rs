//! The standard rpcs of any resource: create, get, query, update, delete.
//!
//! A resource whose rows are all there is to it needs its proto, its table, and these lines:
//!
//! ```
//! use std::sync::Arc;
//! use cairn_operation::Operations;
//! use cairn_proto::{call::Dispatch, compute::v1alpha1::*, serve::Standard};
//! use cairn_resource::{Creating, Deleting, Resources, Updating};
//!
//! # fn example(builder: cairn_operation::Builder, store: cairn_store::Store) {
//! let builder = builder
//!     .register(Creating::<CreateZoneRequest>::plain())
//!     .register(Updating::<UpdateZoneRequest>::plain())
//!     .register(Deleting::<DeleteZoneRequest>::plain());
//! let resources = Resources::new(builder.build(), store);
//! let zones: Arc<dyn Dispatch> = Arc::new(ZoneDispatch(Arc::new(Standard(resources))));
//! # }
//! ```
//!
//! What a resource adds, it adds in [`Creation`], [`Change`] and [`Removal`]: further checks, and
//! rows that commit together with its own.

mod create;
mod delete;
mod policy;
mod serve;
mod update;

use std::time::SystemTime;

use cairn_proto::{crud::Reference, fault::Fault};
use cairn_store::{Tx, Value};
use cairn_types::ErrorCode;
use prost_types::Timestamp;

pub use create::{Creating, Creation};
pub use delete::{Deleting, Removal, in_use};
pub use policy::DeletionPolicy;
pub use serve::Resources;
pub use update::{Change, Updating};

/// Adds nothing to what every resource does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

/// The time that rows are stamped with: to the microsecond, as it is stored, so that a row just
/// made is the same as the row read back.
#[must_use]
pub fn now() -> Timestamp {
    let mut now = Timestamp::from(SystemTime::now());
    now.nanos -= now.nanos % 1_000;
    now
}

/// Refuses a request that names what is not there, or is being deleted. In the transaction of the
/// change, so that nothing named can go in between.
///
/// # Errors
/// A fault that names each field whose resource is missing or going.
pub async fn check_references(tx: &mut Tx, references: &[Reference<'_>]) -> Result<(), Fault> {
    let mut missing = Vec::new();
    for reference in references {
        let resource = tx.catalog().resource(reference.noun);
        let table = resource
            .map(|resource| resource.table.clone())
            .ok_or_else(|| {
                let message = format!("field {} refers to no known resource", reference.field);
                Fault::new(ErrorCode::Internal, message)
            })?;
        let sql = format!(
            "SELECT (SELECT plan_uuid FROM going WHERE resource_uuid = {table}.uuid AND held = 0) \
             FROM {table} WHERE uuid = ?"
        );
        let rows = tx.rows(&sql, vec![Value::from(reference.uuid)]).await?;
        let (noun, uuid) = (reference.noun, reference.uuid);
        let problem = match rows.first().map(|row| row.opt_text(0)).transpose()? {
            None => format!("there is no {noun} {uuid}"),
            Some(Some(plan)) => {
                format!("{noun} {uuid} is being deleted by cascade plan {plan}")
            }
            Some(None) => continue,
        };
        missing.push((reference.field.to_owned(), problem));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Fault::fields(missing))
    }
}
