//! How a service takes part in an examination of the cloud: it implements [`Inspect`], and says of
//! each thing that it cannot explain what that is, as a [`Suspect`].
//!
//! The doctor asks a host what it has, and then every service that has something there. A service
//! reads its own tables only, and answers what is on one side and not on the other:
//!
//! ```
//! use async_trait::async_trait;
//! use cairn_agent_protocol::HostInventory;
//! use cairn_inspect::{Inspect, Place, Suspect};
//! use cairn_proto::fault::Fault;
//!
//! /// A service that knows of no bridge at all.
//! struct NoBridges;
//!
//! #[async_trait]
//! impl Inspect for NoBridges {
//!     async fn host(&self, _: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault> {
//!         let bridges = has.bridges.iter();
//!         let extra = bridges.map(|it| Suspect::extra("bridge", &it.name, "it is no network's"));
//!         Ok(extra.collect())
//!     }
//! }
//! ```
//!
//! What is to be done about it, a suspect says itself. What no host can simply remove, the service
//! puts right when it is asked to, by [`Inspect::repair`].
//!
//! It need not think of what is under way. The doctor drops what belongs to a resource that an
//! operation was at since the host was looked at: the host of a suspect, its owner, and whatever
//! else it is said to [concern](Suspect::concerns). And it looks twice.

mod fix;
mod suspect;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_agent_protocol::HostInventory;
use cairn_proto::{
    call::Extension,
    doctor::ext::v1alpha1::{
        GetPoolsRequest, GetPoolsResponse, InspectBooksRequest, InspectBooksResponse,
        InspectHostRequest, InspectHostResponse, InspectionDispatch, RepairRequest, RepairResponse,
        inspection_service_server::InspectionService,
    },
    doctor::v1alpha1::Finding,
    fault::Fault,
};
use cairn_types::{ErrorCode, InvalidUuid, OperationUuid, TaskUuid};
use tonic::{Request, Response, Status};

pub use fix::begin_fix;
pub use suspect::Suspect;

/// A host that is examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host_uuid: String,
    /// Its cluster.
    pub cluster_uuid: String,
    /// Its zone.
    pub zone_uuid: String,
}

/// What is to be made right.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// As it was told a moment ago.
    pub finding: Finding,
    /// Its host, if it is on one; the uuids are empty otherwise.
    pub place: Place,
    /// The task: the same for a repeat.
    pub task: TaskUuid,
    /// The operation on whose behalf it is done.
    pub operation: OperationUuid,
}

/// A service's part in an examination. It changes nothing but what it is asked to repair.
#[async_trait]
pub trait Inspect: Send + Sync + 'static {
    /// The folders of storage pools that may be on a host.
    ///
    /// # Errors
    /// What keeps the host from being examined.
    async fn pools(&self, _: &Place) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }

    /// What of what a host has the service's tables do not explain, and what of their content the
    /// host does not have.
    ///
    /// # Errors
    /// What keeps the host from being examined.
    async fn host(&self, place: &Place, has: &HostInventory) -> Result<Vec<Suspect>, Fault>;

    /// Where the service's tables do not agree among themselves.
    ///
    /// # Errors
    /// What keeps them from being compared.
    async fn books(&self) -> Result<Vec<Suspect>, Fault> {
        Ok(Vec::new())
    }

    /// Makes a thing right of which this service told so ([`Suspect::repair`]), and says whether it
    /// was one of its own. It may be repeated. No operation of the resource that it is queued at
    /// runs meanwhile; whatever else may run is for this to mind.
    ///
    /// # Errors
    /// Why it is not right yet: it is tried again.
    async fn repair(&self, _: &Repair) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// A service's part, as what the mesh calls.
pub fn extension(implementer: &'static str, part: impl Inspect) -> Extension {
    let service = Arc::new(Service(part));
    Extension {
        implementer,
        dispatch: Arc::new(InspectionDispatch(service)),
    }
}

struct Service<T>(T);

#[async_trait]
impl<T: Inspect> InspectionService for Service<T> {
    async fn get_pools(
        &self,
        request: Request<GetPoolsRequest>,
    ) -> Result<Response<GetPoolsResponse>, Status> {
        let request = request.into_inner();
        let place = Place {
            host_uuid: request.host_uuid,
            cluster_uuid: request.cluster_uuid,
            zone_uuid: request.zone_uuid,
        };
        let paths = self.0.pools(&place).await?;
        Ok(Response::new(GetPoolsResponse { paths }))
    }

    async fn inspect_host(
        &self,
        request: Request<InspectHostRequest>,
    ) -> Result<Response<InspectHostResponse>, Status> {
        let request = request.into_inner();
        let place = Place {
            host_uuid: request.host_uuid,
            cluster_uuid: request.cluster_uuid,
            zone_uuid: request.zone_uuid,
        };
        let has: HostInventory = serde_json::from_str(&request.inventory).map_err(|cause| {
            let message = format!("what host {} has cannot be read: {cause}", place.host_uuid);
            Fault::new(ErrorCode::Internal, message)
        })?;
        let suspects = self.0.host(&place, &has).await?.into_iter();
        let suspects = suspects.map(|suspect| suspect.on_host(&place.host_uuid).into_message());
        Ok(Response::new(InspectHostResponse {
            suspects: suspects.collect::<Result<_, Fault>>()?,
        }))
    }

    async fn inspect_books(
        &self,
        _: Request<InspectBooksRequest>,
    ) -> Result<Response<InspectBooksResponse>, Status> {
        let suspects = self.0.books().await?.into_iter();
        let suspects = suspects.map(Suspect::into_message);
        Ok(Response::new(InspectBooksResponse {
            suspects: suspects.collect::<Result<_, Fault>>()?,
        }))
    }

    async fn repair(
        &self,
        request: Request<RepairRequest>,
    ) -> Result<Response<RepairResponse>, Status> {
        let request = request.into_inner();
        let wrong =
            |field: &'static str| move |error: InvalidUuid| Fault::field(field, error.to_string());
        let finding = request.finding.unwrap_or_default();
        let repair = Repair {
            place: Place {
                host_uuid: finding.host_uuid.clone(),
                cluster_uuid: request.cluster_uuid,
                zone_uuid: request.zone_uuid,
            },
            finding,
            task: request.task_uuid.parse().map_err(wrong("task_uuid"))?,
            operation: request
                .operation_uuid
                .parse()
                .map_err(wrong("operation_uuid"))?,
        };
        let repaired = self.0.repair(&repair).await?;
        Ok(Response::new(RepairResponse { repaired }))
    }
}
