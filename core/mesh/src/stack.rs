//! The stack of a node: which layers a call passes, and in which order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    task::{Context as TaskContext, Poll},
};

use cairn_proto::call::{Answer, BoxFuture, Call, Caller, Dispatch, Extension, Mesh, Method};
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
    /// Two implementations of one extension point by one name.
    #[error("{implementer} is given twice for {point}")]
    ImplementerTwice {
        /// The extension point.
        point: &'static str,
        /// Who implements it.
        implementer: &'static str,
    },
    /// Services were given before.
    #[error("the services of this node were given before")]
    Again,
}

/// The services that this process runs, and the ring of those who run each. Filled once,
/// after the services were made: they need a handle to the mesh that they are part of.
pub(crate) struct Registry {
    pub(crate) node: Uuid,
    here: OnceLock<Here>,
}

#[derive(Default)]
struct Here {
    services: HashMap<&'static str, Served>,
    /// Those who implement an extension point, by their names.
    extensions: HashMap<&'static str, BTreeMap<&'static str, Arc<dyn Dispatch>>>,
}

pub(crate) struct Served {
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) ring: Ring,
}

impl Registry {
    pub(crate) fn service(&self, name: &str) -> Option<&Served> {
        self.here.get()?.services.get(name)
    }

    pub(crate) fn extension(&self, point: &str, implementer: &str) -> Option<&Arc<dyn Dispatch>> {
        self.here.get()?.extensions.get(point)?.get(implementer)
    }

    fn implementers(&self, point: &str) -> Vec<Arc<str>> {
        let known = self.here.get().and_then(|here| here.extensions.get(point));
        let names = known.into_iter().flat_map(BTreeMap::keys);
        names.map(|name| Arc::from(*name)).collect()
    }
}

impl LocalMesh {
    /// The mesh of the node `node`, without services.
    #[must_use]
    pub fn new(node: Uuid) -> Self {
        Self {
            registry: Arc::new(Registry {
                node,
                here: OnceLock::new(),
            }),
        }
    }

    /// Opens the services to calls, and those that implement the extension points of others. Until
    /// then every call is answered `Unimplemented`, and nobody implements anything.
    ///
    /// # Errors
    /// [`ServeError`] if it was done before, or a service or an implementer is given twice.
    pub fn serve(
        &self,
        services: Vec<Arc<dyn Dispatch>>,
        extensions: Vec<Extension>,
    ) -> Result<(), ServeError> {
        let ring = Ring::new(EPOCH, &[self.registry.node]);
        let mut here = Here::default();
        for dispatch in services {
            let Some(name) = dispatch.methods().first().map(|method| method.service) else {
                continue;
            };
            let served = Served {
                dispatch,
                ring: ring.clone(),
            };
            if here.services.insert(name, served).is_some() {
                return Err(ServeError::Twice(name));
            }
        }
        for Extension {
            implementer,
            dispatch,
        } in extensions
        {
            let Some(point) = dispatch.methods().first().map(|method| method.service) else {
                continue;
            };
            let implementers = here.extensions.entry(point).or_default();
            if implementers.insert(implementer, dispatch).is_some() {
                return Err(ServeError::ImplementerTwice { point, implementer });
            }
        }
        self.registry.here.set(here).map_err(|_| ServeError::Again)
    }

    /// The epoch of the ring: the fencing token of what this node changes outside.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        EPOCH
    }

    /// What this node serves.
    pub fn methods(&self) -> impl Iterator<Item = &'static Method> {
        let here = self.registry.here.get().into_iter();
        let services = here.flat_map(|here| here.services.values());
        services.flat_map(|served| served.dispatch.methods())
    }

    /// The handle that clients are made from.
    #[must_use]
    pub fn handle(&self) -> Mesh {
        Mesh::new(Stack {
            // Opens the span that what the call does belongs to.
            layers: TraceLayer.layer(
                // Ends the wait at the deadline.
                DeadlineLayer.layer(
                    // Asks the ring for the owner.
                    RouteLayer::new(Arc::clone(&self.registry))
                        // Runs the call in this process.
                        .layer(Local::new(Arc::clone(&self.registry))),
                ),
            ),
            registry: Arc::clone(&self.registry),
        })
    }
}

/// A tower stack as the caller behind a [`Mesh`].
struct Stack<S> {
    layers: S,
    registry: Arc<Registry>,
}

impl<S> Caller for Stack<S>
where
    S: Service<Call, Response = Answer, Error = Status> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<Result<Answer, Status>> {
        Box::pin(self.layers.clone().oneshot(call))
    }

    fn implementers(&self, service: &str) -> Vec<Arc<str>> {
        self.registry.implementers(service)
    }

    fn method(&self, path: &str) -> Option<&'static Method> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        let methods = self.registry.service(service)?.dispatch.methods();
        methods.iter().find(|method| method.path == path)
    }
}

/// Layers here are always ready: what limits calls refuses them, it does not hold them up.
pub(crate) fn ready(_: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
    Poll::Ready(Ok(()))
}
