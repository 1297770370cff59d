//! Finds the owner of a call: by its key on the ring of those who run the service, or, without
//! a key, the nearest node that runs it. Who implements an extension point is found by name.

use std::{
    future::{Ready, ready as done},
    sync::Arc,
    task::{Context, Poll},
};

use cairn_proto::{
    call::{Answer, Call},
    fault::Fault,
};
use cairn_types::{ErrorCode, Uuid};
use futures::future::Either;
use tonic::Status;
use tower::{Layer, Service};

use crate::stack::{Registry, ready};

#[derive(Clone)]
pub(crate) struct RouteLayer(Arc<Registry>);

impl RouteLayer {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self(registry)
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, local: S) -> Route<S> {
        Route {
            registry: Arc::clone(&self.0),
            local,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Route<S> {
    registry: Arc<Registry>,
    local: S,
}

impl<S> Route<S> {
    fn owner(&self, call: &Call) -> Result<Uuid, Status> {
        let service = call.method.service;
        if let Some(implementer) = &call.implementer {
            return match self.registry.extension(service, implementer) {
                Some(_) => Ok(self.registry.node),
                None => {
                    let message = format!("no node runs {implementer}, which implements {service}");
                    Err(Fault::new(ErrorCode::Unavailable, message).into())
                }
            };
        }
        let Some(served) = self.registry.service(service) else {
            let message = format!("no node runs {service}");
            return Err(Fault::new(ErrorCode::Unimplemented, message).into());
        };
        Ok(match &call.key {
            Some(key) => served
                .ring
                .owner(key.as_bytes())
                .unwrap_or(self.registry.node),
            None => self.registry.node,
        })
    }
}

impl<S> Service<Call> for Route<S>
where
    S: Service<Call, Response = Answer, Error = Status>,
{
    type Response = Answer;
    type Error = Status;
    type Future = Either<S::Future, Ready<Result<Answer, Status>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        match self.owner(&call) {
            Ok(owner) if owner == self.registry.node => Either::Left(self.local.call(call)),
            Ok(owner) => {
                let message = format!("node {owner} cannot be reached");
                Either::Right(done(
                    Err(Fault::new(ErrorCode::Unavailable, message).into()),
                ))
            }
            Err(refused) => Either::Right(done(Err(refused))),
        }
    }
}
