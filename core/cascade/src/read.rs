//! What is read of rows to know what becomes of them.

use std::sync::Arc;

use cairn_proto::meta::{Catalog, Dependents, Field, OnDelete, ResourceType, Stopping};
use cairn_query::leads_to;
use cairn_store::{Row, StoreError, Tx, Value};

use crate::CascadeError;

/// How many resources one statement asks about.
pub(crate) const AT_ONCE: usize = 500;

/// The columns before those of the wholes: the uuid, the name, the field that it was found by.
const FIRST: usize = 3;

/// The rows of a type, as far as they matter.
pub(crate) struct Rows<'c> {
    pub(crate) resource: &'c Arc<ResourceType>,
    /// The fields by which its resources are parts of others, with the types of these.
    wholes: Vec<(&'c Field, &'c Arc<ResourceType>)>,
    stopping: Option<&'c Stopping>,
}

impl<'c> Rows<'c> {
    pub(crate) fn of(catalog: &'c Catalog, resource: &'c Arc<ResourceType>) -> Self {
        let parts = resource.fields.iter();
        let parts = parts.filter(|field| field.on_delete == OnDelete::Part);
        let wholes = parts.filter_map(|field| {
            let noun = field.references.as_deref()?;
            Some((field, catalog.resource(noun)?))
        });
        Self {
            resource,
            wholes: wholes.collect(),
            stopping: catalog.stopping(resource),
        }
    }

    /// Lends out those that have one of these values in a field.
    pub(crate) async fn by_field(
        &self,
        tx: &mut Tx,
        field: &str,
        values: Vec<Value>,
        visit: impl FnMut(&mut Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let marks = vec!["?"; values.len()].join(", ");
        let sql = format!("{} WHERE t0.\"{field}\" IN ({marks})", self.select(field));
        tx.each(&sql, values, visit).await
    }

    /// Those with these uuids.
    pub(crate) async fn by_uuid(
        &self,
        tx: &mut Tx,
        uuids: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::with_capacity(uuids.len());
        let keep = |row: &mut Row| {
            rows.push(std::mem::take(row));
            Ok(())
        };
        self.by_field(tx, "uuid", uuids, keep).await?;
        Ok(rows)
    }

    /// Lends out those that need a resource of another type.
    pub(crate) async fn dependents(
        &self,
        tx: &mut Tx,
        needed: &ResourceType,
        uuid: &str,
        dependents: &Dependents,
        visit: impl FnMut(&mut Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), CascadeError> {
        let conditions = dependents.same.iter().map(|(path, field)| {
            let value = format!(
                "(SELECT \"{field}\" FROM \"{}\" WHERE uuid = ?)",
                needed.table
            );
            leads_to(tx, self.resource, path, &value).map_err(|problem| CascadeError::Dependents {
                noun: needed.name.clone(),
                path: path.clone(),
                problem,
            })
        });
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let sql = format!("{} WHERE {}", self.select("uuid"), conditions.join(" AND "));
        let values = vec![Value::from(uuid); dependents.same.len()];
        Ok(tx.each(&sql, values, visit).await?)
    }

    /// A statement whose rows this reads; `field` is what they are found by.
    fn select(&self, field: &str) -> String {
        let wholes = self.wholes.iter().map(|(field, _)| field.name.as_str());
        let state = self.stopping.map(|stopping| stopping.field.as_str());
        let columns = ["uuid", "name", field].into_iter().chain(wholes);
        let columns = columns.chain(state);
        let columns: Vec<_> = columns.map(|name| format!("t0.\"{name}\"")).collect();
        let (columns, table) = (columns.join(", "), &self.resource.table);
        format!("SELECT {columns} FROM \"{table}\" t0")
    }

    /// What a row is a part of: by which field, of which type, which one.
    pub(crate) fn wholes<'r>(
        &'r self,
        row: &'r Row,
    ) -> impl Iterator<Item = (&'c Field, &'c Arc<ResourceType>, &'r str)> {
        let columns = self.wholes.iter().zip(FIRST..);
        columns.filter_map(|((field, resource), column)| {
            // A reference is a text; the catalog sees to that.
            let whole = row.opt_text_ref(column).ok().flatten()?;
            Some((*field, *resource, whole))
        })
    }

    /// Whether the type can be stopped, and this one is.
    pub(crate) fn is_stopped(&self, row: &Row) -> Result<bool, StoreError> {
        let Some(stopping) = self.stopping else {
            return Ok(false);
        };
        let state = row.opt_text_ref(FIRST + self.wholes.len())?;
        Ok(state.is_some_and(|state| stopping.stopped.iter().any(|stopped| stopped == state)))
    }
}

/// A row's uuid.
pub(crate) fn uuid(row: &Row) -> Result<&str, StoreError> {
    row.text_ref(0)
}

/// A row's name.
pub(crate) fn name(row: &Row) -> Result<&str, StoreError> {
    row.text_ref(1)
}

/// The value of the field that a row was found by.
pub(crate) fn named(row: &Row) -> Result<Option<&str>, StoreError> {
    row.opt_text_ref(2)
}

/// Takes the uuid and the name out of a row.
pub(crate) fn take_names(row: &mut Row) -> Result<(String, String), StoreError> {
    Ok((row.take_text(0)?, row.take_text(1)?))
}
