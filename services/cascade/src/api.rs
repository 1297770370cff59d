//! What the service has beside the standard rpcs: plans with what they show.

use std::collections::BTreeMap;

use cairn_proto::{
    cascade::v1alpha1::{
        CascadeCount, CascadePlan, CascadePlanOwnRpcs, GetCascadePlanRequest,
        GetCascadePlanResponse,
    },
    crud::{Check, Keyed as _},
    fault::Fault,
    serve::{OverStandard, Serve as _},
};
use cairn_resource::Resources;
use cairn_store::Store;
use tonic::{Status, async_trait};

use crate::rows;

/// Items that a get returns unless it says how many.
const LIMIT: u32 = 1_000;
/// The most: an answer stays below what clients take at once.
const LIMIT_MAX: u32 = 10_000;

pub(crate) struct Api {
    store: Store,
    resources: Resources,
}

impl Api {
    pub(crate) fn new(store: Store, resources: Resources) -> Self {
        Self { store, resources }
    }
}

impl OverStandard for Api {
    type Serve = Resources;

    fn standard(&self) -> &Resources {
        &self.resources
    }
}

#[async_trait]
impl CascadePlanOwnRpcs for Api {
    async fn get_cascade_plan(
        &self,
        request: GetCascadePlanRequest,
    ) -> Result<GetCascadePlanResponse, Status> {
        let mut check = Check::default();
        request.check(&mut check);
        let limit = request.limit.unwrap_or(LIMIT);
        check.within("limit", limit.into(), 0, LIMIT_MAX.into());
        check.finish()?;
        let plan: CascadePlan = self.resources.get(&request.uuid).await?;
        let rows = self.store.rows(rows::CONTENT, vec![(&plan.uuid).into()]);
        let content = rows::content(&plan.uuid, &rows.await.map_err(Fault::from)?)?;
        let mut counts = BTreeMap::new();
        for item in &content.items {
            *counts
                .entry((&item.resource_type, item.action))
                .or_default() += 1;
        }
        let counts = counts
            .into_iter()
            .map(|((noun, action), count)| CascadeCount {
                resource_type: noun.clone(),
                action,
                count,
            });
        let counts = counts.collect();
        let start = usize::try_from(request.start).unwrap_or(usize::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let items = content.items.into_iter().skip(start).take(limit);
        Ok(GetCascadePlanResponse {
            counts,
            items: items.collect(),
            blockers: content.blockers,
            failures: content.failures,
            cascade_plan: Some(plan),
        })
    }
}
