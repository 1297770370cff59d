//! The doctor: holds what the database says against what every host and every depot really has.
//!
//! It knows of no kind of thing itself. A connected host is asked what it has, every service that
//! implements the extension point [`Inspection`](cairn_proto::doctor::ext::v1alpha1) says which of
//! it, and of what is in its depots, its own tables do not explain, and of that only what nothing is
//! at is told. What is told says
//! what puts it right, and a fix is an operation that does so. [`Doctor`] is this area of a node.

mod examine;
mod fix;
mod host;
mod places;
mod references;
mod under_way;

use std::sync::Arc;

use cairn_agent::{Agents, Hosts};
use cairn_flow::{FlowError, Flows, Registry};
use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Extension, Mesh},
    doctor::{
        ext::v1alpha1::InspectionExtensions,
        v1alpha1::{DoctorDispatch, DoctorOwnRpcs, ExamineRequest, ExamineResponse},
    },
    serve::{OverStandard, Standard},
};
use cairn_resource::Resources;
use cairn_store::Store;
use tonic::{Status, async_trait};

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
    examination: Arc<Examination>,
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
        let hosts = Hosts::new(mesh.clone(), agents, token);
        Self {
            store,
            examination: Arc::new(Examination::new(&mesh, hosts.clone())),
            hosts,
            mesh,
        }
    }

    /// Adds the steps of this area, and its flow.
    pub fn steps(&self, registry: &mut Registry) {
        let inspections = InspectionExtensions::new(self.mesh.clone());
        fix::steps(registry, &self.examination, self.hosts.clone(), inspections);
    }

    /// Adds the handler of fixes.
    ///
    /// # Errors
    /// If the flow does not fit it.
    pub fn register(&self, operations: Builder, flows: &mut Flows) -> Result<Builder, FlowError> {
        let catalog = Arc::clone(self.store.catalog());
        Ok(operations.register(fix::Fix::new(flows, catalog)?))
    }

    /// What this area serves.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let api = Api {
            examination: Arc::clone(&self.examination),
            resources: resources.clone(),
        };
        vec![Arc::new(DoctorDispatch(Arc::new(Standard(api))))]
    }

    /// Its own part in an examination: references of rows, whoever owns them.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let references = References(self.store.clone());
        vec![cairn_inspect::extension("references", references)]
    }
}

struct Api {
    examination: Arc<Examination>,
    resources: Resources,
}

impl OverStandard for Api {
    type Serve = Resources;

    fn standard(&self) -> &Resources {
        &self.resources
    }
}

#[async_trait]
impl DoctorOwnRpcs for Api {
    async fn examine(&self, request: ExamineRequest) -> Result<ExamineResponse, Status> {
        Ok(self.examination.run(&request).await?)
    }
}

#[cfg(test)]
mod tests;
