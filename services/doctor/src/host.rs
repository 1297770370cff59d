//! One host: what it has, and what services say of that.

use std::time::Duration;

use cairn_agent::Hosts;
use cairn_proto::{
    compute::v1alpha1::{Host, HostStatus},
    doctor::ext::v1alpha1::{GetPoolsRequest, InspectHostRequest, InspectionExtensions, Suspect},
    fault::Fault,
    meta::Resource as _,
};
use cairn_types::ErrorCode;
use tokio::time::timeout;

/// The agent lists processes, interfaces and files; more than this is a hanging machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A host to be examined.
pub(crate) struct Patient<'a> {
    pub(crate) host: &'a Host,
    pub(crate) agents: &'a Hosts,
    pub(crate) inspections: &'a InspectionExtensions,
}

/// What came of an examination of a host or a depot.
pub(crate) enum Examined {
    /// What the rows do not explain, or is not there.
    Has(Vec<Suspect>),
    /// Nothing is known, and why.
    Not(String),
    /// There is no such host any more.
    Gone,
}

impl From<Result<Vec<Suspect>, Fault>> for Examined {
    fn from(suspects: Result<Vec<Suspect>, Fault>) -> Self {
        match suspects {
            Ok(suspects) => Self::Has(suspects),
            Err(fault) => Self::Not(fault.message),
        }
    }
}

impl Patient<'_> {
    pub(crate) async fn examine(&self) -> Examined {
        if let Some(reason) = not_connected(self.host) {
            return Examined::Not(reason);
        }
        match self.suspects().await.transpose() {
            Some(suspects) => suspects.into(),
            None => Examined::Gone,
        }
    }

    /// What the rows do not explain, or the host does not have; none if it is no host any more.
    ///
    /// # Errors
    /// Why nothing is known.
    pub(crate) async fn suspects(&self) -> Result<Option<Vec<Suspect>>, Fault> {
        // An agent that has just gone is tried for longer than a person wants to wait here.
        match timeout(LIMIT, self.inspect()).await {
            Ok(inspected) => inspected,
            Err(_) => {
                let message = format!("its agent did not answer within {} s", LIMIT.as_secs());
                let fault = Fault::new(ErrorCode::AgentUnreachable, message);
                Err(fault.on(Host::NOUN, &self.host.uuid))
            }
        }
    }

    async fn inspect(&self) -> Result<Option<Vec<Suspect>>, Fault> {
        let host = self.host;
        let Some((uuid, _)) = self.agents.find(&host.uuid).await? else {
            return Ok(None);
        };
        let request = GetPoolsRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            zone_uuid: host.zone_uuid.clone(),
        };
        let pools = self.inspections.get_pools(request).await;
        let pools = pools.map_err(|status| Fault::from_status(&status))?;
        let mut pools: Vec<_> = pools.into_iter().flat_map(|answer| answer.paths).collect();
        pools.sort();
        pools.dedup();
        let has = self.agents.inventory(uuid, pools, LIMIT).await?;
        let inventory = serde_json::to_string(&has).map_err(|cause| {
            let message = format!("what host {uuid} has cannot be written down: {cause}");
            Fault::new(ErrorCode::Internal, message)
        })?;
        let request = InspectHostRequest {
            host_uuid: host.uuid.clone(),
            cluster_uuid: host.cluster_uuid.clone(),
            zone_uuid: host.zone_uuid.clone(),
            inventory,
        };
        let inspected = self.inspections.inspect_host(request).await;
        let inspected = inspected.map_err(|status| Fault::from_status(&status))?;
        Ok(Some(
            inspected.into_iter().flat_map(|it| it.suspects).collect(),
        ))
    }
}

/// Why a host that is not connected is not examined.
pub(crate) fn not_connected(host: &Host) -> Option<String> {
    let status = host.status();
    (status != HostStatus::Connected).then(|| format!("the host is {status:?}"))
}
