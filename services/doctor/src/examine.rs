//! An examination: hosts and books are looked at, what is under way is left out, and what is left
//! is looked at once more.
//!
//! A look reads the clock, then has a host say what it has, then has services read their rows. If
//! no operation was at a resource from then on until now, what the host has and what the rows say
//! of it are of the same moment, and must agree. That holds but for what is done beside operations,
//! such as files that go after the operation has ended, or a virtual machine that ended by itself
//! and of which the node has not heard: so only what two looks find, a pause apart, is told.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use cairn_agent::{AT_ONCE, Hosts};
use cairn_proto::{
    call::{Mesh, Rpc as _},
    compute::v1alpha1::{GetHostRequest, Host, HostClient, HostStatus, QueryHostRequest},
    crud::Check,
    doctor::{
        ext::v1alpha1::{InspectBooksRequest, InspectionExtensions, Suspect},
        v1alpha1::{ExamineRequest, ExamineResponse, Finding, FixFindingRequest, UnexaminedHost},
    },
    fault::Fault,
    meta::Resource as _,
    query::v1alpha1::{Condition, Operator, Query},
};
use cairn_types::ErrorCode;
use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use crate::{
    host::{Examined, Patient},
    under_way::{Operations, Who, now},
};

/// Between the two looks: longer than what goes on beside operations usually takes.
const PAUSE: Duration = Duration::from_secs(1);

/// The most that a query returns.
const PAGE: u32 = 10_000;

/// What an examination is made with.
pub(crate) struct Examination {
    hosts: HostClient,
    agents: Hosts,
    inspections: InspectionExtensions,
    operations: Operations,
}

/// What a look found.
#[derive(Default)]
struct Look {
    /// Of things that nothing is at, by host, and there as they were told: what is in the way of
    /// something else is told before it.
    findings: Vec<(Key, Finding)>,
    /// Those that something is at.
    unjudged: HashSet<Key>,
    /// Why hosts could not be examined, by their uuid.
    unexamined: BTreeMap<String, String>,
    examined: HashSet<String>,
}

/// What makes a finding the same in two looks: host, kind, identity, problem, owner and what was
/// seen.
type Key = (String, String, String, i32, String, String);

impl Examination {
    pub(crate) fn new(mesh: &Mesh, agents: Hosts) -> Self {
        Self {
            hosts: HostClient::new(mesh.clone()),
            agents,
            inspections: InspectionExtensions::new(mesh.clone()),
            operations: Operations::new(mesh),
        }
    }

    /// Examines what the request names.
    ///
    /// # Errors
    /// If the request names something that is not there, or the books cannot be read. That a host
    /// cannot be examined is in the answer.
    pub(crate) async fn run(&self, request: &ExamineRequest) -> Result<ExamineResponse, Fault> {
        let hosts = self.hosts(request).await?;
        let whole = request.host_uuid.is_none() && request.zone_uuid.is_none();
        let first = self.look(&hosts, whole).await?;
        let (mut findings, mut unjudged) = (Vec::new(), first.unjudged);
        let (mut examined, mut unexamined) = (first.examined, first.unexamined);
        if !first.findings.is_empty() {
            sleep(PAUSE).await;
            let places = first.findings.iter().map(|(_, it)| &it.host_uuid);
            let places: HashSet<_> = places.collect();
            let again = hosts.iter().filter(|host| places.contains(&host.uuid));
            let again: Vec<_> = again.cloned().collect();
            let books = places.contains(&String::new());
            let second = self.look(&again, books).await?;
            let mut found: HashMap<_, _> = second.findings.into_iter().collect();
            for (key, _) in first.findings {
                findings.extend(found.remove(&key));
                if second.unjudged.contains(&key) {
                    unjudged.insert(key);
                }
            }
            unexamined.extend(second.unexamined);
        }
        examined.retain(|uuid| !unexamined.contains_key(uuid));
        Ok(ExamineResponse {
            findings,
            examined_host_count: u32::try_from(examined.len()).unwrap_or(u32::MAX),
            unjudged_count: u32::try_from(unjudged.len()).unwrap_or(u32::MAX),
            unexamined_hosts: unexamined
                .into_iter()
                .map(|(host_uuid, reason)| UnexaminedHost { host_uuid, reason })
                .collect(),
        })
    }

    /// Looks at hosts, and at the books if they are wanted.
    async fn look(&self, hosts: &[Host], books: bool) -> Result<Look, Fault> {
        let began = now();
        let mut look = Look::default();
        let mut suspects = Vec::new();
        if books {
            suspects.extend(self.books().await?);
        }
        let patients = hosts
            .iter()
            .map(|host| async move { (host, self.patient(host).examine().await) });
        let patients: Vec<_> = patients.collect();
        let mut examined = stream::iter(patients).buffer_unordered(AT_ONCE);
        while let Some((host, examined)) = examined.next().await {
            match examined {
                Examined::Has(found) => {
                    look.examined.insert(host.uuid.clone());
                    suspects.extend(found);
                }
                Examined::Not(reason) => {
                    look.unexamined.insert(host.uuid.clone(), reason);
                }
                Examined::Gone => {}
            }
        }
        self.judge(&mut look, suspects, began).await?;
        Ok(look)
    }

    /// Where the books do not agree among themselves.
    async fn books(&self) -> Result<impl Iterator<Item = Suspect> + use<>, Fault> {
        let inspected = self.inspections.inspect_books(InspectBooksRequest {});
        let inspected = inspected.await.map_err(|it| Fault::from_status(&it))?;
        Ok(inspected.into_iter().flat_map(|answer| answer.suspects))
    }

    fn patient<'a>(&'a self, host: &'a Host) -> Patient<'a> {
        Patient {
            host,
            agents: &self.agents,
            inspections: &self.inspections,
        }
    }

    /// The finding that a request names, as it is now, and the host that it is on, if any; none if
    /// it is not there any more. Another fix does not count as being at it.
    ///
    /// # Errors
    /// `AgentUnreachable` if its host is away; `WrongState` if an operation is at it.
    pub(crate) async fn find(
        &self,
        wanted: &FixFindingRequest,
    ) -> Result<Option<(Suspect, Option<Host>)>, Fault> {
        let began = now();
        let host = match &wanted.host_uuid {
            Some(uuid) => match self.host(uuid).await? {
                Some(host) => Some(host),
                None => return Ok(None),
            },
            None => None,
        };
        let suspects = match &host {
            Some(host) => self.on_connected(host).await?,
            None => self.books().await?.collect(),
        };
        let found = suspects.into_iter().find(|suspect| {
            suspect.finding.as_ref().is_some_and(|it| {
                (&it.kind, it.problem, &it.identity)
                    == (&wanted.kind, wanted.problem, &wanted.identity)
            })
        });
        let Some(suspect) = found else {
            return Ok(None);
        };
        let resources = concerned(&suspect).collect();
        let who = Who::Fix {
            name: FixFindingRequest::METHOD.name,
            queue: &wanted.queue_uuid,
        };
        let busy = self.operations.busy(resources, began, who).await?;
        let at = concerned(&suspect).find(|uuid| busy.contains(*uuid));
        if let Some(uuid) = at {
            let message = format!("an operation, or a gc-job, is at {uuid}");
            return Err(Fault::new(ErrorCode::WrongState, message));
        }
        Ok(Some((suspect, host)))
    }

    async fn host(&self, uuid: &str) -> Result<Option<Host>, Fault> {
        let uuid = uuid.to_owned();
        match self.hosts.get_host(GetHostRequest { uuid }).await {
            Ok(found) => Ok(found.host),
            Err(status) => match Fault::from_status(&status) {
                fault if fault.code == ErrorCode::NotFound => Ok(None),
                fault => Err(fault),
            },
        }
    }

    async fn on_connected(&self, host: &Host) -> Result<Vec<Suspect>, Fault> {
        if let Some(reason) = not_connected(host) {
            let fault = Fault::new(ErrorCode::AgentUnreachable, reason);
            return Err(fault.on(Host::NOUN, &host.uuid));
        }
        let suspects = self.patient(host).suspects().await?;
        Ok(suspects.unwrap_or_default())
    }

    /// Tells what nothing is at from what something is at, or was since the look began.
    async fn judge(
        &self,
        look: &mut Look,
        suspects: Vec<Suspect>,
        began: prost_types::Timestamp,
    ) -> Result<(), Fault> {
        let resources = suspects.iter().flat_map(concerned).collect();
        let busy = self
            .operations
            .busy(resources, began, Who::Examination)
            .await?;
        for suspect in suspects {
            let is_busy = concerned(&suspect).any(|uuid| busy.contains(uuid));
            let finding = suspect.finding.unwrap_or_default();
            let key = key(&finding);
            match is_busy {
                true => drop(look.unjudged.insert(key)),
                false => look.findings.push((key, finding)),
            }
        }
        let host = |(_, finding): &(Key, Finding)| finding.host_uuid.clone();
        look.findings.sort_by_key(host);
        Ok(())
    }

    /// The hosts that a request names.
    async fn hosts(&self, request: &ExamineRequest) -> Result<Vec<Host>, Fault> {
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
            let page = self.hosts.query_host(QueryHostRequest { query }).await;
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
}

/// The resources that a suspect has to do with.
fn concerned(suspect: &Suspect) -> impl Iterator<Item = &str> {
    let finding = suspect.finding.iter();
    let own = finding.flat_map(|it| [&*it.host_uuid, &*it.owner_uuid]);
    let others = suspect.concerned_uuids.iter().map(String::as_str);
    own.chain(others).filter(|uuid| !uuid.is_empty())
}

fn key(finding: &Finding) -> Key {
    (
        finding.host_uuid.clone(),
        finding.kind.clone(),
        finding.identity.clone(),
        finding.problem,
        finding.owner_uuid.clone(),
        finding.detail.clone(),
    )
}

fn condition(field: &str, operator: Operator, value: &str) -> Condition {
    Condition {
        field: field.to_owned(),
        operator: operator.into(),
        values: vec![value.to_owned()],
    }
}

/// Why a host that is not connected is not examined.
pub(crate) fn not_connected(host: &Host) -> Option<String> {
    let status = host.status();
    (status != HostStatus::Connected).then(|| format!("the host is {status:?}"))
}
