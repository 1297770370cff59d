//! What is looked at: the hosts that a request names, or everything.

use std::collections::HashSet;

use cairn_proto::{
    compute::v1alpha1::{Host, HostClient, QueryHostRequest},
    crud::Check,
    doctor::{
        ext::v1alpha1::{Depot, GetDepotsRequest, InspectionExtensions},
        v1alpha1::{ExamineRequest, Finding},
    },
    fault::Fault,
    query::v1alpha1::{Condition, Operator, Query},
};

/// The most that a query returns.
const PAGE: u32 = 10_000;

/// What a look is at.
pub(crate) struct Places {
    pub(crate) hosts: Vec<Host>,
    pub(crate) depots: Vec<Depot>,
    /// What the database says of itself.
    pub(crate) books: bool,
}

impl Places {
    /// Those that a request names.
    ///
    /// # Errors
    /// If it names something that is not there.
    pub(crate) async fn named(
        request: &ExamineRequest,
        hosts: &HostClient,
        inspections: &InspectionExtensions,
    ) -> Result<Self, Fault> {
        let hosts = hosts_of(request, hosts).await?;
        let whole = request.host_uuid.is_none() && request.zone_uuid.is_none();
        let mut depots = Vec::new();
        if whole {
            let known = inspections.get_depots(GetDepotsRequest {}).await;
            let known = known.map_err(|status| Fault::from_status(&status))?;
            depots.extend(known.into_iter().flat_map(|answer| answer.depots));
        }
        Ok(Self {
            hosts,
            depots,
            books: whole,
        })
    }

    /// Those where something was found.
    pub(crate) fn of<'a>(&self, findings: impl Iterator<Item = &'a Finding>) -> Self {
        let found: HashSet<_> = findings
            .map(|finding| (&*finding.host_uuid, &*finding.depot_uuid))
            .collect();
        let hosts = self.hosts.iter();
        let depots = self.depots.iter();
        Self {
            hosts: hosts
                .filter(|host| found.contains(&(&*host.uuid, "")))
                .cloned()
                .collect(),
            depots: depots
                .filter(|depot| found.contains(&("", &*depot.uuid)))
                .cloned()
                .collect(),
            books: found.contains(&("", "")),
        }
    }
}

/// The hosts that a request names.
async fn hosts_of(request: &ExamineRequest, client: &HostClient) -> Result<Vec<Host>, Fault> {
    let mut check = Check::default();
    let mut named = Vec::new();
    let fields = [
        ("host_uuid", "uuid", &request.host_uuid),
        ("zone_uuid", "zone_uuid", &request.zone_uuid),
    ];
    for (field, column, value) in fields {
        if let Some(value) = value {
            check.uuid(field, value);
            named.push(condition(column, Operator::Eq, value));
        }
    }
    check.finish()?;
    let mut hosts: Vec<Host> = Vec::new();
    loop {
        let mut conditions = named.clone();
        if let Some(last) = hosts.last() {
            conditions.push(condition("uuid", Operator::Gt, &last.uuid));
        }
        let query = Query {
            conditions,
            sort_by: "uuid".to_owned(),
            limit: Some(PAGE),
            ..Query::default()
        };
        let query = Some(query);
        let page = client.query_host(QueryHostRequest { query }).await;
        let page = page.map_err(|status| Fault::from_status(&status))?.hosts;
        let full = page.len() >= PAGE as usize;
        hosts.extend(page);
        if !full {
            break;
        }
    }
    match &request.host_uuid {
        Some(uuid) if hosts.is_empty() => Err(Fault::not_found("host", uuid)),
        _ => Ok(hosts),
    }
}

fn condition(field: &str, operator: Operator, value: &str) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: vec![value.to_owned()],
    }
}
