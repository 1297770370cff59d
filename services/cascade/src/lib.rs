//! Plans of what becomes of others when something is done to a resource, and their execution.
//!
//! What has to be done with what is found by [`cairn_cascade`]; here a plan of it is kept, shown,
//! and carried out as it was shown or not at all. [`Cascades`] is this area of a node.

mod api;
mod compare;
mod create;
mod execute;
mod operation;
mod rows;

use std::sync::Arc;

use cairn_operation::Builder;
use cairn_proto::{
    call::{Dispatch, Mesh},
    cascade::v1alpha1::{CascadePlanDispatch, DeleteCascadePlanRequest},
    serve::Standard,
};
use cairn_resource::{Deleting, Resources};
use cairn_store::{Migration, Store};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        service: "cascade",
        number: 1,
        name: "cascade plan",
        sql: include_str!("../migrations/0001_cascade_plan.sql"),
    },
    Migration {
        service: "cascade",
        number: 2,
        name: "operations",
        sql: include_str!("../migrations/0002_operations.sql"),
    },
];

/// The cascade area of a node.
pub struct Cascades {
    store: Store,
    mesh: Mesh,
}

impl Cascades {
    /// The area, over what the other services store and serve.
    #[must_use]
    pub fn new(store: Store, mesh: Mesh) -> Self {
        Self { store, mesh }
    }

    /// Adds the handlers of this area's operations.
    #[must_use]
    pub fn register(&self, operations: Builder) -> Builder {
        operations
            .register(create::Create {
                catalog: Arc::clone(self.store.catalog()),
            })
            .register(execute::Execute {
                mesh: self.mesh.clone(),
            })
            .register(Deleting::<DeleteCascadePlanRequest, _>::with(rows::Gone))
    }

    /// What this area serves.
    #[must_use]
    pub fn services(&self, resources: &Resources) -> Vec<Arc<dyn Dispatch>> {
        let api = api::Api::new(self.store.clone(), resources.clone());
        vec![Arc::new(CascadePlanDispatch(Arc::new(Standard(api))))]
    }
}
