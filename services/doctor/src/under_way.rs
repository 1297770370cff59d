//! Which resources something is at: an operation, or a job that goes on with what one left.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use cairn_proto::{
    call::Mesh,
    fault::Fault,
    operation::v1alpha1::{GcJobClient, OperationClient, QueryGcJobRequest, QueryOperationRequest},
    query::v1alpha1::{Condition, Operator, Query},
};
use prost_types::Timestamp;
use tonic::Code;

/// How many resources are asked about at once.
const AT_ONCE: usize = 500;
/// The most that a query returns.
const PAGE: u32 = 10_000;

/// The operations and the jobs of the cloud.
pub(crate) struct Operations {
    operations: OperationClient,
    jobs: GcJobClient,
}

/// Who asks what is busy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who<'a> {
    /// An examination.
    Examination,
    /// An operation that fixes something.
    Fix {
        /// The name of such operations, which are not at what another one of them fixes.
        name: &'a str,
        /// The resource in whose queue it is: no other operation of that one runs, and those that
        /// wait for their turn have not begun.
        queue: &'a str,
    },
}

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
        Self {
            operations: OperationClient::new(mesh.clone()),
            jobs: GcJobClient::new(mesh.clone()),
        }
    }

    /// Those of the resources that an operation is at, or was at since then, or that a job is
    /// about, as `who` asks.
    ///
    /// # Errors
    /// If they cannot be queried.
    pub(crate) async fn busy(
        &self,
        resources: HashSet<&str>,
        since: Timestamp,
        who: Who<'_>,
    ) -> Result<HashSet<String>, Fault> {
        let mut counts = Vec::new();
        let mut runs = Vec::new();
        if let Who::Fix { name, queue } = who {
            counts.push(condition("name", Operator::Ne, name.to_owned()));
            runs.push(condition("resource_uuid", Operator::Ne, queue.to_owned()));
        }
        runs.extend_from_slice(&counts);
        let resources: Vec<_> = resources.into_iter().map(str::to_owned).collect();
        let mut busy = HashSet::new();
        for some in resources.chunks(AT_ONCE) {
            // What ends between the two queries is in the second one.
            let running = condition("state", Operator::Eq, "Accepted".to_owned());
            let ended = condition("end_time", Operator::Ge, since.to_string());
            for which in [running, ended] {
                let which = [&[which], &*runs].concat();
                busy.extend(self.of_operations(about(some, &which)).await?);
            }
            busy.extend(self.of_jobs(about(some, &counts)).await?);
        }
        Ok(busy)
    }

    async fn of_operations(&self, query: Query) -> Result<Vec<String>, Fault> {
        let request = QueryOperationRequest { query: Some(query) };
        let found = self.operations.query_operation(request).await;
        let found = found.map_err(|status| Fault::from_status(&status))?;
        let found = found.operations.into_iter();
        Ok(found.map(|operation| operation.resource_uuid).collect())
    }

    async fn of_jobs(&self, query: Query) -> Result<Vec<String>, Fault> {
        let request = QueryGcJobRequest { query: Some(query) };
        match self.jobs.query_gc_job(request).await {
            Ok(found) => {
                let jobs = found.gc_jobs.into_iter();
                Ok(jobs.map(|job| job.resource_uuid).collect())
            }
            // Where nobody keeps jobs there are none.
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            Err(status) => Err(Fault::from_status(&status)),
        }
    }
}

/// What is about one of these resources, and fulfils these conditions.
fn about(resources: &[String], which: &[Condition]) -> Query {
    let among = Condition {
        field: "resource_uuid".to_owned(),
        operator: Operator::In.into(),
        values: resources.to_vec(),
    };
    Query {
        conditions: [&[among], which].concat(),
        fields: vec!["resource_uuid".to_owned()],
        limit: Some(PAGE),
        ..Query::default()
    }
}

fn condition(field: &str, operator: Operator, value: String) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: vec![value],
    }
}
