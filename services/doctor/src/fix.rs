//! A fix: one finding is looked for again, in the queue of the resource that it belongs to, and put
//! right as it is found then. What is seen and what is done about it are one step, which comes after
//! the point of no return: whenever it runs, after a crash or as a job because its place was away, it
//! acts on what is there at that moment, and on nothing that it knew before.

use std::{sync::Arc, time::Duration};

use cairn_agent::{Ack, Hosts, Task, stored_uuid};
use cairn_agent_protocol::RemoveStray;
use cairn_flow::{Bag, Flow, FlowError, Flows, Outcome, Registry, Step, StepContext};
use cairn_operation::{Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::{Method, Rpc as _},
    compute::v1alpha1::Host,
    crud::{Check, Keyed as _},
    doctor::{
        ext::v1alpha1::{InspectionExtensions, RepairRequest, Suspect},
        v1alpha1::{
            Finding, FixFindingRequest, FixFindingResponse, FixOutcome, Fixed, Problem, Remedy,
        },
    },
    fault::Fault,
    meta::Catalog,
};
use cairn_types::{ErrorCode, HostUuid};
use tonic::async_trait;

use crate::examine::Examination;

const REQUEST: &str = "cairn.doctor.v1alpha1.FixFindingRequest";
const FIXED: &str = "cairn.doctor.v1alpha1.Fixed";

/// What a host gets to remove a thing.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Fix {
    flow: Flow,
    catalog: Arc<Catalog>,
}

impl Fix {
    pub(crate) fn new(flows: &mut Flows, catalog: Arc<Catalog>) -> Result<Self, FlowError> {
        let flow = flows.of::<Self>("fix-finding", &[FIXED])?;
        Ok(Self { flow, catalog })
    }
}

/// The steps, and the flow of them.
pub(crate) fn steps(
    registry: &mut Registry,
    examination: &Arc<Examination>,
    agents: Hosts,
    inspections: InspectionExtensions,
) {
    registry
        .step(CheckFinding(Arc::clone(examination)))
        .step(PutRight {
            examination: Arc::clone(examination),
            agents,
            inspections,
        })
        .flow(
            "fix-finding.toml",
            include_str!("../flows/fix-finding.toml"),
        );
}

#[async_trait]
impl Handler for Fix {
    type Request = FixFindingRequest;
    type Response = FixFindingResponse;
    type Spec = FixFindingRequest;
    const METHOD: &'static Method = FixFindingRequest::METHOD;

    fn check(&self, request: &FixFindingRequest) -> Result<FixFindingRequest, Fault> {
        let mut check = Check::default();
        request.check(&mut check);
        let given = [("kind", &request.kind), ("identity", &request.identity)];
        for (field, _) in given.into_iter().filter(|(_, text)| text.is_empty()) {
            check.refuse(field, "is empty; give that of the finding");
        }
        if request.problem() == Problem::Unspecified {
            check.refuse("problem", "is not given; give that of the finding");
        }
        let nouns = [
            ("queue_type", Some(&request.queue_type)),
            ("depot_type", request.depot_type.as_ref()),
        ];
        for (field, noun) in nouns
            .into_iter()
            .filter_map(|(field, it)| Some((field, it?)))
        {
            if self.catalog.resource(noun).is_none() {
                let problem =
                    format!("is `{noun}`, which is no type of resource; give that of the finding");
                check.refuse(field, problem);
            }
        }
        if let Some(uuid) = &request.depot_uuid {
            check.uuid("depot_uuid", uuid);
        }
        if request.depot_type.is_some() != request.depot_uuid.is_some() {
            check.refuse(
                "depot_uuid",
                "goes with depot_type; give both of the finding, or neither",
            );
        } else if request.depot_uuid.is_some() && request.host_uuid.is_some() {
            check.refuse(
                "depot_uuid",
                "is given beside host_uuid; give that of the two that the finding has",
            );
        }
        check.finish()?;
        Ok(request.clone())
    }

    fn queue(&self, request: &FixFindingRequest) -> Queue {
        Queue::serial(&request.queue_type, request.key())
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<FixFindingRequest>,
    ) -> Result<Ended<Fixed>, Fault> {
        let fixed = self.flow.run(cx, Bag::of(&*request), |_, bag| {
            let fixed = bag.get::<Fixed>().unwrap_or_default();
            Box::pin(async move { Ok(fixed) })
        });
        fixed.await
    }
}

/// Refuses what no fix does anything about, while that costs nothing. What cannot be looked at now
/// is looked at when it is put right.
struct CheckFinding(Arc<Examination>);

#[async_trait]
impl Step for CheckFinding {
    fn name(&self) -> &'static str {
        "check-finding"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let found = match self.0.find(&cx.get()?).await {
            Ok(found) => found,
            Err(fault) if later(&fault) => None,
            Err(fault) => return Err(fault),
        };
        match found.and_then(|(suspect, _)| suspect.finding) {
            Some(finding) if finding.remedy() == Remedy::None => Err(nothing(&finding)),
            _ => Ok(Outcome::none()),
        }
    }
}

/// Whether waiting helps.
fn later(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::AgentUnreachable | ErrorCode::Unavailable | ErrorCode::WrongState
    )
}

fn nothing(finding: &Finding) -> Fault {
    let Finding {
        kind,
        identity,
        advice,
        ..
    } = finding;
    let message = format!("no fix does anything about {kind} {identity}: {advice}");
    let fault = Fault::new(ErrorCode::WrongState, message);
    match finding.owner_uuid.is_empty() {
        true => fault,
        false => fault.on(&finding.owner_type, &finding.owner_uuid),
    }
}

/// Looks again, and does what is to be done about what is found.
struct PutRight {
    examination: Arc<Examination>,
    agents: Hosts,
    inspections: InspectionExtensions,
}

#[async_trait]
impl Step for PutRight {
    fn name(&self) -> &'static str {
        "put-right"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[REQUEST]
    }

    fn provides(&self) -> &'static [&'static str] {
        &[FIXED]
    }

    fn outside(&self) -> bool {
        true
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Outcome, Fault> {
        let request: FixFindingRequest = cx.get()?;
        let mut fixed = Fixed::default();
        let Some((suspect, host)) = self.examination.find(&request).await? else {
            fixed.set_outcome(FixOutcome::Gone);
            return Ok(Outcome::provide(&fixed));
        };
        let finding = suspect.finding.clone().unwrap_or_default();
        fixed.finding = Some(finding.clone());
        fixed.set_outcome(FixOutcome::Fixed);
        match finding.remedy() {
            Remedy::Remove => {
                let removed = self.remove(cx, &suspect, &request.queue_uuid).await?;
                Ok(Outcome::provide(&fixed).then(|| removed.committed()))
            }
            Remedy::Repair => {
                self.repair(cx, finding, host.unwrap_or_default()).await?;
                Ok(Outcome::provide(&fixed))
            }
            Remedy::None | Remedy::Unspecified => {
                fixed.set_outcome(FixOutcome::Nothing);
                Ok(Outcome::provide(&fixed))
            }
        }
    }
}

impl PutRight {
    /// At the agent it is in the queue of the commands that make such a thing.
    async fn remove(
        &self,
        cx: &StepContext<'_>,
        suspect: &Suspect,
        queue: &str,
    ) -> Result<Ack, Fault> {
        let host = suspect.finding.as_ref().map(|it| it.host_uuid.parse());
        let (Some(Ok(host)), Ok(stray)) = (host, serde_json::from_str(&suspect.stray)) else {
            let message = format!("what is to be removed cannot be read: `{}`", suspect.stray);
            return Err(Fault::new(ErrorCode::Internal, message));
        };
        let host: HostUuid = host;
        let task = Task {
            task: cx.task(),
            operation: cx.operation().uuid(),
            resource: stored_uuid(queue)?,
            limit: LIMIT,
        };
        let command = RemoveStray { stray };
        let ((), removed) = self.agents.call(host, task, &command).await?;
        Ok(removed)
    }

    async fn repair(
        &self,
        cx: &StepContext<'_>,
        finding: Finding,
        host: Host,
    ) -> Result<(), Fault> {
        let kind = finding.kind.clone();
        let request = RepairRequest {
            finding: Some(finding),
            cluster_uuid: host.cluster_uuid,
            zone_uuid: host.zone_uuid,
            task_uuid: cx.task().to_string(),
            operation_uuid: cx.operation().uuid().to_string(),
        };
        let repaired = self.inspections.repair(request).await;
        let repaired = repaired.map_err(|status| Fault::from_status(&status))?;
        if repaired.iter().any(|it| it.repaired) {
            return Ok(());
        }
        let message = format!("nobody here repairs a {kind}");
        Err(Fault::new(ErrorCode::Unimplemented, message))
    }
}
