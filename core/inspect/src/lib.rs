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
//! What it keeps at a place that is no host, a [`Depot`], it looks at itself.
//!
//! What is to be done about it, a suspect says itself. What no host can simply remove, the service
//! puts right when it is asked to, by [`Inspect::repair`]. Who knows beforehand what will be found, since
//! a host is away that should give something up, begins its fix at once, by [`begin_fix`].
//!
//! It need not think of what is under way. The doctor drops what belongs to a resource that an
//! operation was at since the place was looked at: the host or the depot of a suspect, its owner, and
//! whatever else it is said to [concern](Suspect::concerns). And it looks twice.

mod fix;
mod suspect;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_agent_protocol::HostInventory;
use cairn_proto::{
    call::Extension,
    doctor::ext::v1alpha1::{
        self as ext, GetDepotsRequest, GetDepotsResponse, GetPoolsRequest, GetPoolsResponse,
        InspectBooksRequest, InspectBooksResponse, InspectDepotRequest, InspectDepotResponse,
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

/// A place that is no host, where its service keeps something: a backup storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depot {
    /// The type of resource that it is.
    pub noun: String,
    /// That resource.
    pub uuid: String,
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

    /// The depots of the service.
    ///
    /// # Errors
    /// What keeps them from being known.
    async fn depots(&self) -> Result<Vec<Depot>, Fault> {
        Ok(Vec::new())
    }

    /// What of what a depot has the service's tables do not explain, and what of their content is
    /// not there. The depot is looked at before the tables are. Of one that is not the service's, or
    /// is none any more, there is nothing to say.
    ///
    /// # Errors
    /// What keeps it from being examined: `Unavailable`, and on it, if that may pass.
    async fn depot(&self, _: &Depot) -> Result<Vec<Suspect>, Fault> {
        Ok(Vec::new())
    }

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

    async fn get_depots(
        &self,
        _: Request<GetDepotsRequest>,
    ) -> Result<Response<GetDepotsResponse>, Status> {
        let depots = self.0.depots().await?.into_iter();
        let depots = depots.map(|Depot { noun, uuid }| ext::Depot { r#type: noun, uuid });
        Ok(Response::new(GetDepotsResponse {
            depots: depots.collect(),
        }))
    }

    async fn inspect_depot(
        &self,
        request: Request<InspectDepotRequest>,
    ) -> Result<Response<InspectDepotResponse>, Status> {
        let ext::Depot { r#type, uuid } = request.into_inner().depot.unwrap_or_default();
        let depot = Depot { noun: r#type, uuid };
        let suspects = self.0.depot(&depot).await?.into_iter();
        let suspects = suspects.map(|suspect| suspect.in_depot(&depot).into_message());
        Ok(Response::new(InspectDepotResponse {
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
