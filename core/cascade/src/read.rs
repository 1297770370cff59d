//! What is read of rows to know what becomes of them.

use cairn_proto::meta::{Dependents, Field, OnDelete, ResourceType};
use cairn_query::leads_to;
use cairn_store::{Row, StoreError, Tx, Value};

use crate::CascadeError;

/// How many resources one statement asks about.
pub(crate) const AT_ONCE: usize = 500;

/// A row, as far as it matters.
#[derive(Debug)]
pub(crate) struct Read<'r> {
    pub(crate) uuid: String,
    pub(crate) name: String,
    /// The value of the field that it was found by.
    pub(crate) named: Option<String>,
    /// What it is a part of, by which field.
    pub(crate) wholes: Vec<(&'r Field, String)>,
    /// Its type can be stopped, and it is.
    pub(crate) is_stopped: bool,
}

/// The rows of a type that have one of these values in a field, in the order of their uuids.
pub(crate) async fn by_field<'r>(
    tx: &mut Tx,
    resource: &'r ResourceType,
    field: &Field,
    values: &[String],
) -> Result<Vec<Read<'r>>, StoreError> {
    let marks = vec!["?"; values.len()].join(", ");
    let sql = format!(
        "SELECT {columns} FROM \"{table}\" t0 WHERE t0.\"{field}\" IN ({marks})",
        columns = columns(tx, resource, &field.name),
        table = resource.table,
        field = field.name,
    );
    rows(tx, resource, &sql, values.iter().map(Value::from).collect()).await
}

/// The rows of a type with these uuids.
pub(crate) async fn by_uuid<'r>(
    tx: &mut Tx,
    resource: &'r ResourceType,
    uuids: &[String],
) -> Result<Vec<Read<'r>>, StoreError> {
    match resource.field("uuid") {
        Some(field) => by_field(tx, resource, field, uuids).await,
        None => Ok(Vec::new()),
    }
}

/// The rows of a type that need a resource of another one.
pub(crate) async fn dependents<'r>(
    tx: &mut Tx,
    needed: &ResourceType,
    uuid: &str,
    resource: &'r ResourceType,
    dependents: &Dependents,
) -> Result<Vec<Read<'r>>, CascadeError> {
    let conditions = dependents.same.iter().map(|(path, field)| {
        let value = format!(
            "(SELECT \"{field}\" FROM \"{}\" WHERE uuid = ?)",
            needed.table
        );
        leads_to(tx, resource, path, &value).map_err(|problem| CascadeError::Dependents {
            noun: needed.name.clone(),
            path: path.clone(),
            problem,
        })
    });
    let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    let sql = format!(
        "SELECT {columns} FROM \"{table}\" t0 WHERE {conditions}",
        columns = columns(tx, resource, "uuid"),
        table = resource.table,
        conditions = conditions.join(" AND "),
    );
    let values = vec![Value::from(uuid); dependents.same.len()];
    Ok(rows(tx, resource, &sql, values).await?)
}

/// The columns that [`rows`] expects of a statement.
fn columns(tx: &Tx, resource: &ResourceType, field: &str) -> String {
    let parts = part_of(resource).map(|field| field.name.as_str());
    let stopping = tx.catalog().stopping(resource);
    let state = stopping.map(|stopping| stopping.field.as_str());
    let columns = ["uuid", "name", field].into_iter().chain(parts);
    let columns = columns.chain(state);
    let columns: Vec<_> = columns.map(|name| format!("t0.\"{name}\"")).collect();
    columns.join(", ")
}

/// What a statement finds, in the order of the uuids.
async fn rows<'r>(
    tx: &mut Tx,
    resource: &'r ResourceType,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<Read<'r>>, StoreError> {
    let rows = tx.rows(sql, values).await?;
    let stopping = tx.catalog().stopping(resource);
    let read = |mut row: Row| {
        let (mut wholes, mut column) = (Vec::new(), 3);
        for field in part_of(resource) {
            wholes.extend(row.take_opt_text(column)?.map(|whole| (field, whole)));
            column += 1;
        }
        let is_stopped = match stopping {
            None => false,
            Some(stopping) => {
                let state = row.take_opt_text(column)?;
                state.is_some_and(|state| stopping.stopped.contains(&state))
            }
        };
        Ok(Read {
            uuid: row.take_text(0)?,
            name: row.take_text(1)?,
            named: row.take_opt_text(2)?,
            wholes,
            is_stopped,
        })
    };
    let read: Result<Vec<_>, StoreError> = rows.into_iter().map(read).collect();
    let mut read = read?;
    read.sort_unstable_by(|one: &Read<'_>, other| one.uuid.cmp(&other.uuid));
    Ok(read)
}

/// The fields by which a type's resources are parts of others.
fn part_of(resource: &ResourceType) -> impl Iterator<Item = &Field> {
    let fields = resource.fields.iter();
    fields.filter(|field| field.on_delete == OnDelete::Part)
}
