//! The public door: the only listener that authenticates and authorises. It names the caller,
//! then hands the call, still encoded, to the mesh. tonic's own clients and those of any other
//! language are served alike; health and reflection are there too, behind the same check.

mod auth;
mod codec;
mod gateway;
mod limits;
mod metrics;
mod reflection;

use std::{collections::HashMap, sync::Arc};

use axum::{Router, routing::get};
use cairn_proto::call::{Mesh, Method};
use prost_reflect::DescriptorPool;
use tonic_health::server::{HealthReporter, health_reporter};

pub use auth::{Authenticator, Unauthenticated};
pub use limits::CallLimits;

/// What the public door serves.
pub struct Door {
    /// Where calls go.
    pub mesh: Mesh,
    /// What is served; internal methods are left out.
    pub methods: Vec<&'static Method>,
    /// Names callers by their tokens.
    pub authenticator: Arc<dyn Authenticator>,
    /// What reflection tells.
    pub descriptors: DescriptorPool,
    /// Metrics in Prometheus' text format, at `GET /metrics`.
    pub metrics: fn() -> String,
    /// How many calls may be open at once. Health, reflection and metrics do not count.
    pub limits: CallLimits,
}

impl Door {
    /// The door as a router for a TLS listener, and the reporter that tells its health.
    pub fn router(self) -> (Router, HealthReporter) {
        let methods: HashMap<_, _> = self
            .methods
            .into_iter()
            .filter(|method| !method.internal)
            .map(|method| (method.path, method))
            .collect();
        let mut services: Vec<_> = methods.values().map(|m| m.service.to_owned()).collect();
        services.sort_unstable();
        services.dedup();
        let (reporter, health) = health_reporter();
        let reflection = reflection::service(self.descriptors, services);
        let gateway = gateway::Gateway::new(self.mesh, methods, self.limits);
        let metrics = self.metrics;
        let router = Router::new()
            .route("/metrics", get(move || async move { metrics() }))
            .route_service("/grpc.health.v1.Health/{method}", health)
            .route_service("/grpc.reflection.v1.ServerReflection/{method}", reflection)
            .fallback_service(gateway)
            .layer(auth::AuthLayer::new(self.authenticator));
        (router, reporter)
    }
}
