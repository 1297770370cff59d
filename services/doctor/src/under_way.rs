//! Which resources something is at.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use cairn_proto::{
    call::Mesh,
    fault::Fault,
    operation::v1alpha1::{OperationClient, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
};
use prost_types::Timestamp;

/// How many resources are asked about at once.
const AT_ONCE: usize = 500;
/// The most that a query returns.
const PAGE: u32 = 10_000;

/// The operations of the cloud.
pub(crate) struct Operations(OperationClient);

/// The time, to the microsecond as rows have it, and not later than it is.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_micros()).unwrap_or_default() * 1_000,
    }
}

impl Operations {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        Self(OperationClient::new(mesh.clone()))
    }

    /// Those of the resources that an operation is at, or was at since then.
    ///
    /// # Errors
    /// If operations cannot be queried.
    pub(crate) async fn busy(
        &self,
        resources: HashSet<&str>,
        since: Timestamp,
    ) -> Result<HashSet<String>, Fault> {
        let resources: Vec<_> = resources.into_iter().map(str::to_owned).collect();
        let mut busy = HashSet::new();
        for some in resources.chunks(AT_ONCE) {
            // What ends between the two queries is in the second one.
            let running = condition("state", Operator::Eq, "Accepted".to_owned());
            let ended = condition("end_time", Operator::Ge, since.to_string());
            for which in [running, ended] {
                busy.extend(self.resources_of(some, which).await?);
            }
        }
        Ok(busy)
    }

    async fn resources_of(
        &self,
        resources: &[String],
        which: Condition,
    ) -> Result<Vec<String>, Fault> {
        let among = Condition {
            field: "resource_uuid".to_owned(),
            operator: Operator::In.into(),
            values: resources.to_vec(),
        };
        let query = Query {
            conditions: vec![among, which],
            fields: vec!["resource_uuid".to_owned()],
            limit: Some(PAGE),
            ..Query::default()
        };
        let query = Some(query);
        let found = self
            .0
            .query_operation(QueryOperationRequest { query })
            .await;
        let found = found.map_err(|status| Fault::from_status(&status))?;
        let found = found.operations.into_iter();
        Ok(found.map(|operation| operation.resource_uuid).collect())
    }
}

fn condition(field: &str, operator: Operator, value: String) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: vec![value],
    }
}
