//! What operations left: shown and queried as any resource, tried on demand, given up by deleting.

use cairn_flow::Gc;
use cairn_operation::Builder;
use cairn_proto::{
    crud::{Check, Keyed as _},
    operation::v1alpha1::{
        DeleteGcJobRequest, GcJobOwnRpcs, TriggerGcJobRequest, TriggerGcJobResponse,
    },
    serve::OverStandard,
};
use cairn_resource::{Deleting, Resources};
use tonic::{Status, async_trait};

/// Adds the handlers of jobs.
#[must_use]
pub fn register(operations: Builder) -> Builder {
    operations.register(Deleting::<DeleteGcJobRequest>::plain())
}

/// The service of jobs of one node; to be served as `Standard`.
pub struct GcJobApi {
    gc: Gc,
    resources: Resources,
}

impl GcJobApi {
    /// The service over this collector.
    #[must_use]
    pub fn new(gc: Gc, resources: Resources) -> Self {
        Self { gc, resources }
    }
}

impl OverStandard for GcJobApi {
    type Serve = Resources;

    fn standard(&self) -> &Resources {
        &self.resources
    }
}

#[async_trait]
impl GcJobOwnRpcs for GcJobApi {
    async fn trigger_gc_job(
        &self,
        request: TriggerGcJobRequest,
    ) -> Result<TriggerGcJobResponse, Status> {
        let mut check = Check::default();
        request.check(&mut check);
        check.finish()?;
        let job = self.gc.trigger(&request.uuid).await?;
        Ok(TriggerGcJobResponse { gc_job: Some(job) })
    }
}
