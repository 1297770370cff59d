//! Names in place of uuids, the other way: in tables, where a row refers to other resources, as
//! people know these by their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cairn_proto::query::v1alpha1::{Condition, Operator, Query};
use futures::future::join_all;
use prost_reflect::{DynamicMessage, FieldDescriptor};

use crate::{
    action::Actions,
    connection::Connection,
    flag,
    names::{self, text_of},
    query,
};

/// Of a table that refers to more resources of one noun, those stay uuids.
const MOST: usize = 500;

/// The names of resources, by uuid. One whose name is also another's is not in it.
#[derive(Debug, Default)]
pub(crate) struct Labels(HashMap<String, String>);

impl Labels {
    /// Those that the rows refer to in these columns. What cannot be learned is left out: the
    /// table has its uuid.
    pub(crate) async fn of(
        connection: &Connection,
        actions: &Actions,
        rows: &[DynamicMessage],
        columns: &[FieldDescriptor],
    ) -> Self {
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for column in columns {
            let Some(noun) = flag::references(column).filter(|noun| names::are_taken(noun)) else {
                continue;
            };
            let uuids = rows.iter().map(|row| text_of(row, column.name()));
            let uuids = uuids.filter(|uuid| !uuid.is_empty());
            wanted.entry(noun).or_default().extend(uuids);
        }
        let lookups = wanted.into_iter().filter_map(|(noun, uuids)| {
            let action = actions.find(&noun, "query")?;
            let query = (1..=MOST).contains(&uuids.len()).then(|| named(uuids))?;
            Some(async move { query::find(connection, action, &query).await })
        });
        let mut labels = HashMap::new();
        for found in join_all(lookups).await.into_iter().flatten() {
            let rows = found.rows.iter();
            let rows = rows.map(|row| (text_of(row, "uuid"), text_of(row, "name")));
            labels.extend(unique(rows.collect()));
        }
        Self(labels)
    }

    /// The name of that resource, if it is known.
    pub(crate) fn name(&self, uuid: &str) -> Option<&str> {
        self.0.get(uuid).map(String::as_str)
    }
}

/// The query for the names of these.
fn named(uuids: BTreeSet<String>) -> Query {
    Query {
        conditions: vec![Condition {
            field: "uuid".to_owned(),
            operator: Operator::In.into(),
            values: uuids.into_iter().collect(),
        }],
        fields: vec!["uuid".to_owned(), "name".to_owned()],
        ..Query::default()
    }
}

/// Those whose name is nobody else's, as uuid and name.
fn unique(named: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut count: HashMap<String, u32> = HashMap::new();
    for (_, name) in &named {
        *count.entry(name.clone()).or_default() += 1;
    }
    let is_unique = |name: &String| !name.is_empty() && count.get(name) == Some(&1);
    let named = named.into_iter();
    named.filter(|(_, name)| is_unique(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_name_keep_their_uuids() {
        let named = [("u1", "east"), ("u2", "west"), ("u3", "east"), ("u4", "")];
        let named = named.map(|(uuid, name)| (uuid.to_owned(), name.to_owned()));
        let kept = unique(named.to_vec());
        assert_eq!(kept, [("u2".to_owned(), "west".to_owned())]);
    }
}
