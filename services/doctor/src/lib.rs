//! The doctor: holds what the database says against what every host really has.
//!
//! It knows of no kind of thing itself. A connected host is asked what it has, every service that
//! implements the extension point [`Inspection`](cairn_proto::doctor::ext::v1alpha1) says which of
//! it its own tables do not explain, and of that only what nothing is at is told. [`Doctor`] is
//! this area of a node.

mod examine;
mod host;
mod references;
mod under_way;

use std::sync::Arc;

use cairn_agent::{Agents, Hosts};
use cairn_proto::{
    call::{Dispatch, Extension, Mesh},
    doctor::v1alpha1::{
        DoctorDispatch, ExamineRequest, ExamineResponse, doctor_service_server::DoctorService,
    },
};
use cairn_store::Store;
use tonic::{Request, Response, Status, async_trait};

use crate::{examine::Examination, references::References};

/// What this area needs of the node that runs it.
pub struct Needs {
    /// The database.
    pub store: Store,
    /// The way to other services.
    pub mesh: Mesh,
    /// The agents of hosts.
    pub agents: Agents,
    /// The fencing token: the ring epoch at which this node proved that it owns what it changes.
    pub token: u64,
}

/// The doctor's area of a node.
pub struct Doctor {
    store: Store,
    mesh: Mesh,
    hosts: Hosts,
}

impl Doctor {
    /// The area, over what the other services store and serve.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let Needs {
            store,
            mesh,
            agents,
            token,
        } = needs;
        Self {
            store,
            hosts: Hosts::new(mesh.clone(), agents, token),
            mesh,
        }
    }

    /// What this area serves.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<dyn Dispatch>> {
        let api = Api(Examination::new(&self.mesh, self.hosts.clone()));
        vec![Arc::new(DoctorDispatch(Arc::new(api)))]
    }

    /// Its own part in an examination: references of rows, whoever owns them.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let references = References(self.store.clone());
        vec![cairn_inspect::extension("references", references)]
    }
}

struct Api(Examination);

#[async_trait]
impl DoctorService for Api {
    async fn examine(
        &self,
        request: Request<ExamineRequest>,
    ) -> Result<Response<ExamineResponse>, Status> {
        Ok(Response::new(self.0.run(&request.into_inner()).await?))
    }
}

#[cfg(test)]
mod tests;
