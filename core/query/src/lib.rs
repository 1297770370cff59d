//! Queries over every field of every resource, from descriptors to SQL.
//!
//! A condition names a field of the resource, or a path along references that ends in a field:
//!
//! - `cluster.zone.name` goes forward, from the field `cluster_uuid` to the cluster it names, and
//!   on to its zone. The part of the path is the field's name without `_uuid`.
//! - `hosts.state` goes back, from a cluster to the hosts that name it. The part of the path is
//!   the plural of those that refer. If they refer by several fields, it says by which:
//!   `operations_via_parent`.
//!
//! `snake_case` and `lowerCamelCase` are the same. What a condition along a path means:
//!
//! - It holds if there is a resource at the end of the path for which it holds; that is so for
//!   every operator. `hosts.state != Enabled` finds clusters with a host that is not enabled, not
//!   those without an enabled host; `cluster.description =null` finds no host without a cluster.
//! - Each condition goes its own way: `hosts.state = Enabled` and `hosts.name = a` may hold by
//!   two different hosts.
//!
//! What a comparison means:
//!
//! - A field without a value fulfils only `=null`; a field that always has one, `name` for
//!   instance, never does, also when it is empty.
//! - Text is compared byte by byte, enum values by name. `~=` takes `%` for any text, `_` for one
//!   character, `\` before either for itself, and does not tell `A` from `a` (only these 26).
//! - Times are compared to the microsecond.
//! - Without a value sorts before every value. The same query gives the same order.

mod condition;
mod error;
mod path;
mod plan;
mod suggest;

use bytes::Bytes;
use cairn_proto::{
    meta::{Resource, ResourceType},
    query::v1alpha1::Query,
};
use cairn_store::{Store, StoreError, Tx, encode_row};

pub use error::QueryError;
pub use suggest::suggest;

use path::Path;
use plan::Plan;

/// The limit of a query that names none.
pub const DEFAULT_LIMIT: u32 = 1_000;
/// The greatest limit that a query may name.
pub const MAX_LIMIT: u32 = 10_000;
/// The most conditions of a query.
pub const MAX_CONDITIONS: usize = 32;
/// The most references that one condition goes along.
pub const MAX_DEPTH: usize = 32;
/// The most values of one condition.
pub const MAX_VALUES: usize = 1_000;

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The resources, encoded; fields that were not asked for are absent.
    pub rows: Vec<Bytes>,
    /// How many there are without regard to limit and start, if the query asked.
    pub total: Option<u64>,
}

/// Runs a query over the resources of one type.
///
/// Rows and total are read one after the other: a write between them may show in one only.
///
/// # Errors
/// [`QueryError::Invalid`] with everything that is wrong in the query, or what the store says.
pub async fn query(
    store: &Store,
    resource: &ResourceType,
    query: &Query,
) -> Result<Found, QueryError> {
    let plan = Plan::new(store, resource, query)?;
    let mut found = Found::default();
    if let Some((sql, values)) = plan.count {
        let rows = store.rows(&sql, values).await?;
        let count = rows.first().map_or(Ok(0), |row| row.int(0))?;
        found.total = Some(u64::try_from(count).unwrap_or_default());
    }
    if let Some((sql, values)) = plan.select {
        for row in store.rows(&sql, values).await? {
            let row = encode_row(resource, plan.fields.iter().copied(), &row)?;
            found.rows.push(row);
        }
    }
    Ok(found)
}

/// Runs a query over the resources of type `R`: those found, and how many there are if the query
/// asked.
///
/// # Errors
/// As [`query`].
pub async fn query_as<R: Resource>(
    store: &Store,
    query: &Query,
) -> Result<(Vec<R>, Option<u64>), QueryError> {
    let resource = store.catalog().resource(R::NOUN);
    let resource = resource.ok_or_else(|| StoreError::NoTable(R::NOUN.to_owned()))?;
    let found = self::query(store, resource, query).await?;
    let rows = found.rows.into_iter().map(|row| {
        R::decode(row).map_err(|cause| StoreError::Decode {
            resource: R::NOUN.to_owned(),
            cause,
        })
    });
    Ok((rows.collect::<Result<_, _>>()?, found.total))
}

/// A condition over the rows of a resource's table, which is called `t0`: that a path leads to
/// `value`, an SQL expression.
///
/// # Errors
/// What is wrong with the path, and what would be right.
pub fn leads_to(
    tx: &Tx,
    resource: &ResourceType,
    path: &str,
    value: &str,
) -> Result<String, String> {
    let path = Path::resolve(tx, resource, path)?;
    Ok(plan::along(&path, &format!("= {value}")))
}
