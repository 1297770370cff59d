//! A checked query as SQL.

use std::fmt::Write as _;

use cairn_proto::{
    meta::{Field, ResourceType},
    query::v1alpha1::{Condition, Query, SortDirection},
};
use cairn_store::{Store, StoreError, Value};

use crate::{
    DEFAULT_LIMIT, MAX_CONDITIONS, MAX_LIMIT, QueryError,
    condition::{self, Wrong},
    path::{Path, readable, readable_names},
    suggest::suggest,
};

/// What is to be read.
pub(crate) struct Plan<'s> {
    /// The columns of `select`.
    pub(crate) fields: Vec<&'s Field>,
    pub(crate) select: Option<(String, Vec<Value>)>,
    pub(crate) count: Option<(String, Vec<Value>)>,
}

/// Each part that is wrong, and what is wrong with it.
type Problems = Vec<(String, String)>;

impl<'s> Plan<'s> {
    pub(crate) fn new(
        store: &'s Store,
        resource: &'s ResourceType,
        query: &Query,
    ) -> Result<Self, QueryError> {
        if !store.has_table(&resource.name) {
            return Err(StoreError::NoTable(resource.name.clone()).into());
        }
        let mut problems = Vec::new();
        let (condition, values) = conditions(store, resource, &query.conditions, &mut problems);
        let fields = selected(resource, &query.fields, &mut problems);
        let order = order(resource, query, &mut problems);
        let limits = limits(query, &mut problems);
        if !problems.is_empty() {
            return Err(QueryError::Invalid { fields: problems });
        }

        let from = format!("FROM \"{}\" t0{condition}", resource.table);
        let count = (query.count || query.reply_with_count)
            .then(|| (format!("SELECT COUNT(*) {from}"), values.clone()));
        let select = (!query.count).then(|| {
            let columns: Vec<_> = fields
                .iter()
                .map(|f| format!("t0.\"{}\"", f.name))
                .collect();
            let columns = columns.join(", ");
            let sql = format!("SELECT {columns} {from} ORDER BY {order} LIMIT ? OFFSET ?");
            (sql, [values, limits.to_vec()].concat())
        });
        Ok(Self {
            fields,
            select,
            count,
        })
    }
}

/// ` WHERE …`, or nothing.
fn conditions(
    store: &Store,
    resource: &ResourceType,
    conditions: &[Condition],
    problems: &mut Problems,
) -> (String, Vec<Value>) {
    if conditions.len() > MAX_CONDITIONS {
        let problem = format!("are {}; at most {MAX_CONDITIONS}", conditions.len());
        problems.push(("conditions".to_owned(), problem));
        return Default::default();
    }
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (index, condition) in conditions.iter().enumerate() {
        let mut wrong = |part, problem| {
            problems.push((format!("conditions[{index}].{part}"), problem));
        };
        let path = match Path::resolve(store, resource, &condition.field) {
            Ok(path) => path,
            Err(problem) => {
                wrong("field", problem);
                continue;
            }
        };
        let compared = condition::compare(
            path.resource,
            path.field,
            condition.operator,
            &condition.values,
        );
        match compared {
            Ok(comparison) => {
                sql += if sql.is_empty() { " WHERE " } else { " AND " };
                sql += &along(&path, &comparison.sql);
                values.extend(comparison.values);
            }
            Err(Wrong::Operator(problem)) => wrong("operator", problem),
            Err(Wrong::Values(problem)) => wrong("values", problem),
        }
    }
    (sql, values)
}

/// The comparison at the end of its path: `t0` is the resource that is looked for, each step
/// goes on to the next number.
///
/// Each step is an IN over a query that does not depend on the row outside of it, so that the
/// database may start at either end. Not EXISTS: SQLite 3.51 makes a join of it that counts a row
/// into OFFSET as often as there are rows that refer to it.
pub(crate) fn along(path: &Path<'_>, comparison: &str) -> String {
    let mut sql = String::new();
    for (before, step) in path.steps.iter().enumerate() {
        let (here, there, table) = (step.here, step.there, step.table);
        let next = before + 1;
        // Writing to a String does not fail.
        let _ = write!(
            sql,
            "t{before}.\"{here}\" IN (SELECT t{next}.\"{there}\" FROM \"{table}\" t{next} WHERE "
        );
    }
    let depth = path.steps.len();
    let _ = write!(sql, "t{depth}.\"{}\" {comparison}", path.field.name);
    sql += &")".repeat(depth);
    sql
}

/// The fields to return, in the order of their numbers: those that are named and the uuid.
fn selected<'s>(
    resource: &'s ResourceType,
    names: &[String],
    problems: &mut Problems,
) -> Vec<&'s Field> {
    let mut named = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match own_field(resource, name) {
            Ok(field) => named.push(field.number),
            Err(problem) => problems.push((format!("fields[{index}]"), problem)),
        }
    }
    let fields = resource.fields.iter().filter(|field| !field.secret);
    fields
        .filter(|f| names.is_empty() || f.name == "uuid" || named.contains(&f.number))
        .collect()
}

fn own_field<'s>(resource: &'s ResourceType, name: &str) -> Result<&'s Field, String> {
    match resource.field(name) {
        Some(field) => readable(field),
        None if name.contains('.') => Err(format!(
            "`{name}` is a path; only fields of {} itself can stand here",
            resource.name
        )),
        None => {
            let suggestion = suggest(name, readable_names(resource));
            Err(format!(
                "{} has no field `{name}`{suggestion}",
                resource.name
            ))
        }
    }
}

/// What stands behind ORDER BY.
fn order(resource: &ResourceType, query: &Query, problems: &mut Problems) -> String {
    let by = match query.sort_by.as_str() {
        "" => "create_time",
        by => by,
    };
    let name = match own_field(resource, by) {
        Ok(field) => &field.name,
        Err(problem) => {
            problems.push(("sort_by".to_owned(), problem));
            return String::new();
        }
    };
    let (direction, nulls) = match SortDirection::try_from(query.sort_direction) {
        Ok(SortDirection::Unspecified | SortDirection::Asc) => ("ASC", "FIRST"),
        Ok(SortDirection::Desc) => ("DESC", "LAST"),
        Err(_) => {
            let problem = format!("{} is no direction; ASC or DESC", query.sort_direction);
            problems.push(("sort_direction".to_owned(), problem));
            return String::new();
        }
    };
    match name.as_str() {
        "uuid" => format!("t0.\"uuid\" {direction}"),
        // The uuid in the same direction: an index over both serves either direction.
        _ => format!("t0.\"{name}\" {direction} NULLS {nulls}, t0.\"uuid\" {direction}"),
    }
}

/// The values of LIMIT and OFFSET.
fn limits(query: &Query, problems: &mut Problems) -> [Value; 2] {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        problems.push((
            "limit".to_owned(),
            format!("is {limit}; at most {MAX_LIMIT}"),
        ));
    }
    let start = i64::try_from(query.start).unwrap_or(i64::MAX);
    [Value::from(limit), Value::from(start)]
}
