//! An examination: hosts, depots and books are looked at, what is under way is left out, and what is
//! left is looked at once more.
//!
//! A look reads the clock, then has a place say what it has, then has services read their rows. If
//! no operation was at a resource from then on until now, what the place has and what the rows say
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
    compute::v1alpha1::{GetHostRequest, Host, HostClient},
    doctor::{
        ext::v1alpha1::{
            Depot, InspectBooksRequest, InspectDepotRequest, InspectionExtensions, Suspect,
        },
        v1alpha1::{
            ExamineRequest, ExamineResponse, Finding, FixFindingRequest, UnexaminedDepot,
            UnexaminedHost,
        },
    },
    fault::Fault,
    meta::Resource as _,
};
use cairn_types::ErrorCode;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::sleep;

use crate::{
    host::{Examined, Patient, not_connected},
    places::Places,
    under_way::{Operations, Who, now},
};

/// Between the two looks: longer than what goes on beside operations usually takes.
const PAUSE: Duration = Duration::from_secs(1);

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
    /// Of things that nothing is at, by place, and there as they were told: what is in the way of
    /// something else is told before it.
    findings: Vec<(Key, Finding)>,
    /// Those that something is at.
    unjudged: HashSet<Key>,
    /// Why hosts and depots could not be examined.
    unexamined: BTreeMap<Named, String>,
    examined: HashSet<Named>,
}

/// A host or a depot: its type and its uuid.
type Named = (String, String);

/// What makes a finding the same in two looks: host, depot, kind, identity, problem, owner and what
/// was seen.
type Key = (String, String, String, String, i32, String, String);

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
    /// If the request names something that is not there, or the books cannot be read. That a host or
    /// a depot cannot be examined is in the answer.
    pub(crate) async fn run(&self, request: &ExamineRequest) -> Result<ExamineResponse, Fault> {
        let places = Places::named(request, &self.hosts, &self.inspections).await?;
        let first = self.look(&places).await?;
        let (mut findings, mut unjudged) = (Vec::new(), first.unjudged);
        let (mut examined, mut unexamined) = (first.examined, first.unexamined);
        if !first.findings.is_empty() {
            sleep(PAUSE).await;
            let again = places.of(first.findings.iter().map(|(_, finding)| finding));
            let second = self.look(&again).await?;
            let mut found: HashMap<_, _> = second.findings.into_iter().collect();
            for (key, _) in first.findings {
                findings.extend(found.remove(&key));
                if second.unjudged.contains(&key) {
                    unjudged.insert(key);
                }
            }
            unexamined.extend(second.unexamined);
        }
        examined.retain(|named| !unexamined.contains_key(named));
        Ok(answer(findings, unjudged.len(), &examined, unexamined))
    }

    async fn look(&self, places: &Places) -> Result<Look, Fault> {
        let began = now();
        let mut look = Look::default();
        let mut suspects = Vec::new();
        if places.books {
            suspects.extend(self.books().await?);
        }
        let hosts = places.hosts.iter().map(|host| {
            let named = (Host::NOUN.to_owned(), host.uuid.clone());
            async move { (named, self.patient(host).examine().await) }.boxed()
        });
        let depots = places.depots.iter().map(|depot| {
            let named = (depot.r#type.clone(), depot.uuid.clone());
            async move { (named, self.depot(depot).await.into()) }.boxed()
        });
        let looks: Vec<_> = hosts.chain(depots).collect();
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some((named, examined)) = looks.next().await {
            match examined {
                Examined::Has(found) => {
                    look.examined.insert(named);
                    suspects.extend(found);
                }
                Examined::Not(reason) => {
                    look.unexamined.insert(named, reason);
                }
                Examined::Gone => {}
            }
        }
        self.judge(&mut look, suspects, began).await?;
        Ok(look)
    }

    /// What of a depot its service cannot explain, or does not find there.
    async fn depot(&self, depot: &Depot) -> Result<Vec<Suspect>, Fault> {
        let depot = Some(depot.clone());
        let inspected = self
            .inspections
            .inspect_depot(InspectDepotRequest { depot });
        let inspected = inspected.await.map_err(|it| Fault::from_status(&it))?;
        Ok(inspected.into_iter().flat_map(|it| it.suspects).collect())
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
    /// `AgentUnreachable` if its host is away, `Unavailable` if its depot is; `WrongState` if an
    /// operation is at it.
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
        let suspects = match (&host, depot_of(wanted)) {
            (Some(host), _) => self.on_connected(host).await?,
            (None, Some(depot)) => self.depot(&depot).await?,
            (None, None) => self.books().await?.collect(),
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
        let place = |(_, finding): &(Key, Finding)| {
            let Finding {
                host_uuid,
                depot_uuid,
                ..
            } = finding;
            (host_uuid.clone(), depot_uuid.clone())
        };
        look.findings.sort_by_key(place);
        Ok(())
    }
}

fn answer(
    findings: Vec<Finding>,
    unjudged: usize,
    examined: &HashSet<Named>,
    unexamined: BTreeMap<Named, String>,
) -> ExamineResponse {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let is_host = |(noun, _): &&Named| noun == Host::NOUN;
    let hosts = examined.iter().filter(is_host).count();
    let mut answer = ExamineResponse {
        findings,
        examined_host_count: count(hosts),
        examined_depot_count: count(examined.len() - hosts),
        unjudged_count: count(unjudged),
        ..ExamineResponse::default()
    };
    for (named, reason) in unexamined {
        if is_host(&&named) {
            let (_, host_uuid) = named;
            let host = UnexaminedHost { host_uuid, reason };
            answer.unexamined_hosts.push(host);
        } else {
            let (depot_type, depot_uuid) = named;
            answer.unexamined_depots.push(UnexaminedDepot {
                depot_type,
                depot_uuid,
                reason,
            });
        }
    }
    answer
}

fn depot_of(wanted: &FixFindingRequest) -> Option<Depot> {
    Some(Depot {
        r#type: wanted.depot_type.clone()?,
        uuid: wanted.depot_uuid.clone()?,
    })
}

/// The resources that a suspect has to do with.
fn concerned(suspect: &Suspect) -> impl Iterator<Item = &str> {
    let finding = suspect.finding.iter();
    let own = finding.flat_map(|it| [&*it.host_uuid, &*it.depot_uuid, &*it.owner_uuid]);
    let others = suspect.concerned_uuids.iter().map(String::as_str);
    own.chain(others).filter(|uuid| !uuid.is_empty())
}

fn key(finding: &Finding) -> Key {
    (
        finding.host_uuid.clone(),
        finding.depot_uuid.clone(),
        finding.kind.clone(),
        finding.identity.clone(),
        finding.problem,
        finding.owner_uuid.clone(),
        finding.detail.clone(),
    )
}
