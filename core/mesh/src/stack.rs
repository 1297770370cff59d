//! The stack of a node: which layers a call passes, and in which order.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    task::{Context as TaskContext, Poll},
};

use cairn_proto::call::{Answer, BoxFuture, Call, Caller, Dispatch, Mesh, Method};
use cairn_ring::Ring;
use cairn_types::Uuid;
use tonic::Status;
use tower::{Service, ServiceExt as _, layer::Layer as _};

use crate::{
    layer::{deadline::DeadlineLayer, route::RouteLayer, trace::TraceLayer},
    local::Local,
};

/// A node alone never sees its ring change.
const EPOCH: u64 = 1;

/// The mesh of one node, with the services of this process behind it.
#[derive(Clone)]
pub struct LocalMesh {
    registry: Arc<Registry>,
}

/// Services that cannot be served together.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Two implementations of one service.
    #[error("service {0} is given twice")]
    Twice(&'static str),
    /// Services were given before.
    #[error("the services of this node were given before")]
    Again,
}

/// The services that this process runs, and the ring of those who run each. Filled once,
/// after the services were made: they need a handle to the mesh that they are part of.
pub(crate) struct Registry {
    pub(crate) node: Uuid,
    services: OnceLock<HashMap<&'static str, Served>>,
}

pub(crate) struct Served {
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) ring: Ring,
}

impl Registry {
    pub(crate) fn service(&self, name: &str) -> Option<&Served> {
        self.services.get()?.get(name)
    }
}

impl LocalMesh {
    /// The mesh of the node `node`, without services.
    #[must_use]
    pub fn new(node: Uuid) -> Self {
        Self {
            registry: Arc::new(Registry {
                node,
                services: OnceLock::new(),
            }),
        }
    }

    /// Opens the services to calls. Until then every call is answered `Unimplemented`.
    ///
    /// # Errors
    /// [`ServeError`] if it was done before, or a service is given twice.
    pub fn serve(&self, services: Vec<Arc<dyn Dispatch>>) -> Result<(), ServeError> {
        let ring = Ring::new(EPOCH, &[self.registry.node]);
        let mut map = HashMap::new();
        for dispatch in services {
            let Some(name) = dispatch.methods().first().map(|method| method.service) else {
                continue;
            };
            let served = Served {
                dispatch,
                ring: ring.clone(),
            };
            if map.insert(name, served).is_some() {
                return Err(ServeError::Twice(name));
            }
        }
        self.registry
            .services
            .set(map)
            .map_err(|_| ServeError::Again)
    }

    /// The epoch of the ring: the fencing token of what this node changes outside.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        EPOCH
    }

    /// What this node serves.
    pub fn methods(&self) -> impl Iterator<Item = &'static Method> {
        let services = self.registry.services.get().into_iter().flatten();
        services.flat_map(|(_, served)| served.dispatch.methods())
    }

    /// The handle that clients are made from.
    #[must_use]
    pub fn handle(&self) -> Mesh {
        Mesh::new(Stack(
            // Opens the span that what the call does belongs to.
            TraceLayer.layer(
                // Ends the wait at the deadline.
                DeadlineLayer.layer(
                    // Asks the ring for the owner.
                    RouteLayer::new(Arc::clone(&self.registry))
                        // Runs the call in this process.
                        .layer(Local::new(Arc::clone(&self.registry))),
                ),
            ),
        ))
    }
}

/// A tower stack as the caller behind a [`Mesh`].
struct Stack<S>(S);

impl<S> Caller for Stack<S>
where
    S: Service<Call, Response = Answer, Error = Status> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<Result<Answer, Status>> {
        Box::pin(self.0.clone().oneshot(call))
    }
}

/// Layers here are always ready: what limits calls refuses them, it does not hold them up.
pub(crate) fn ready(_: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
    Poll::Ready(Ok(()))
}
