//! The service on the wire: the standard rpcs, and plans with what they show.

use std::collections::BTreeMap;

use cairn_proto::{
    call::Rpc as _,
    cascade::v1alpha1::{
        CascadeCount, CascadePlan, CreateCascadePlanRequest, CreateCascadePlanResponse,
        DeleteCascadePlanRequest, DeleteCascadePlanResponse, ExecuteCascadePlanRequest,
        ExecuteCascadePlanResponse, GetCascadePlanRequest, GetCascadePlanResponse,
        QueryCascadePlanRequest, QueryCascadePlanResponse,
        cascade_plan_service_server::CascadePlanService,
    },
    crud::{Check, Keyed as _},
    fault::Fault,
    serve::Serve as _,
};
use cairn_resource::Resources;
use cairn_store::Store;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, async_trait};

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

    async fn get(&self, request: GetCascadePlanRequest) -> Result<GetCascadePlanResponse, Status> {
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
            cascade_plan: Some(plan),
        })
    }
}

type Events<M> = BoxStream<'static, Result<M, Status>>;

#[async_trait]
impl CascadePlanService for Api {
    type CreateCascadePlanStream = Events<CreateCascadePlanResponse>;
    type ExecuteCascadePlanStream = Events<ExecuteCascadePlanResponse>;
    type DeleteCascadePlanStream = Events<DeleteCascadePlanResponse>;

    async fn create_cascade_plan(
        &self,
        request: Request<CreateCascadePlanRequest>,
    ) -> Result<Response<Self::CreateCascadePlanStream>, Status> {
        let method = CreateCascadePlanRequest::METHOD;
        let events = self.resources.operate(method, request.into_inner());
        Ok(Response::new(events.await?))
    }

    async fn get_cascade_plan(
        &self,
        request: Request<GetCascadePlanRequest>,
    ) -> Result<Response<GetCascadePlanResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn query_cascade_plan(
        &self,
        request: Request<QueryCascadePlanRequest>,
    ) -> Result<Response<QueryCascadePlanResponse>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let (cascade_plans, total) = self.resources.query(query).await?;
        Ok(Response::new(QueryCascadePlanResponse {
            cascade_plans,
            total,
        }))
    }

    async fn execute_cascade_plan(
        &self,
        request: Request<ExecuteCascadePlanRequest>,
    ) -> Result<Response<Self::ExecuteCascadePlanStream>, Status> {
        let method = ExecuteCascadePlanRequest::METHOD;
        let events = self.resources.operate(method, request.into_inner());
        Ok(Response::new(events.await?))
    }

    async fn delete_cascade_plan(
        &self,
        request: Request<DeleteCascadePlanRequest>,
    ) -> Result<Response<Self::DeleteCascadePlanStream>, Status> {
        let method = DeleteCascadePlanRequest::METHOD;
        let events = self.resources.operate(method, request.into_inner());
        Ok(Response::new(events.await?))
    }
}
