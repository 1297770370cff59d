//! The tables of resources: what they should be by their descriptors, and whether they are.

use std::collections::BTreeMap;

use cairn_proto::meta::{Field, FieldKind, ResourceType};

use crate::{Row, Store, StoreError, Value};

/// The table that holds a resource, with the indexes that every table has: one for each
/// reference, since it is followed both ways, and one for the order in which queries answer.
#[must_use]
pub fn create_table_sql(resource: &ResourceType) -> String {
    let table = &resource.table;
    let columns = resource.fields.iter().map(|field| {
        let key = if field.name == "uuid" {
            " PRIMARY KEY"
        } else {
            ""
        };
        let null = if field.nullable { "" } else { " NOT NULL" };
        format!(
            "  \"{}\" {}{null}{key}",
            field.name,
            column_type(&field.kind)
        )
    });
    let columns = columns.collect::<Vec<_>>().join(",\n");
    let mut sql = format!(
        "CREATE TABLE \"{table}\" (\n{columns}\n);\n\
         CREATE INDEX \"{table}_by_create_time\" ON \"{table}\" (create_time, uuid);\n"
    );
    for field in resource.fields.iter().filter(|f| f.references.is_some()) {
        let name = &field.name;
        sql += &format!("CREATE INDEX \"{table}_by_{name}\" ON \"{table}\" (\"{name}\");\n");
    }
    sql
}

fn column_type(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::Enum(_) => "TEXT",
        FieldKind::Signed(_) | FieldKind::Unsigned(_) | FieldKind::Bool | FieldKind::Time => {
            "BIGINT"
        }
        FieldKind::Double => "DOUBLE PRECISION",
        FieldKind::Bytes => "BYTEA",
    }
}

impl Store {
    /// Where the tables differ from the descriptors of the resources they hold; a resource
    /// without a table is none of it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn schema_problems(&self) -> Result<Vec<String>, StoreError> {
        let mut problems = Vec::new();
        for resource in self.resources() {
            let columns = self
                .rows(self.kind().columns(), vec![Value::from(&resource.table)])
                .await?;
            let mut there = BTreeMap::new();
            for row in columns {
                there.insert(row.text(0)?, row);
            }
            for field in &resource.fields {
                let at = format!("{}.{}", resource.table, field.name);
                match there.remove(&field.name) {
                    None => problems.push(format!("{at} is missing")),
                    Some(row) => compare(&at, field, &row, &mut problems)?,
                }
            }
            let extra = there.keys();
            problems.extend(extra.map(|name| format!("{}.{name} is no field", resource.table)));
        }
        problems.sort();
        Ok(problems)
    }
}

fn compare(
    at: &str,
    field: &Field,
    row: &Row,
    problems: &mut Vec<String>,
) -> Result<(), StoreError> {
    let (is, nullable, key) = (row.text(1)?, !row.bool(2)?, row.bool(3)?);
    let should = column_type(&field.kind);
    if !is.eq_ignore_ascii_case(should) {
        problems.push(format!("{at} is {is}, the field wants {should}"));
    }
    if nullable != field.nullable {
        let (is, should) = match field.nullable {
            true => ("NOT NULL", "NULL where it has no value"),
            false => ("nullable", "NOT NULL"),
        };
        problems.push(format!("{at} is {is}, the field wants {should}"));
    }
    if key != (field.name == "uuid") {
        problems.push(format!("{at}: the primary key is uuid and nothing else"));
    }
    Ok(())
}
