//! Making a plan: nothing is changed but that there is one.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_cascade::find_for;
use cairn_operation::{Ended, KeyedHandler, OperationContext};
use cairn_proto::{
    cascade::v1alpha1::{CascadePlan, CascadePlanState, CreateCascadePlanRequest},
    crud::{Check, Create as _},
    fault::Fault,
    meta::{Catalog, Operation, Resource as _},
};
use cairn_resource::now;

use crate::{operation, rows};

pub(crate) struct Create {
    pub(crate) catalog: Arc<Catalog>,
}

#[async_trait]
impl KeyedHandler for Create {
    type Request = CreateCascadePlanRequest;
    type Resource = CascadePlan;

    fn check_further(&self, request: &Self::Request, check: &mut Check) {
        check.uuid("resource_uuid", &request.resource_uuid);
        let noun = &request.resource_type;
        if self.catalog.resource(noun).is_none() {
            let known: Vec<_> = self.catalog.resources().map(|r| r.name.as_str()).collect();
            let problem = format!("is `{noun}`; give one of {}", known.join(", "));
            check.refuse("resource_type", problem);
        } else if let Err(fault) = operation::named(&self.catalog, noun, &request.operation) {
            for (field, problem) in fault.fields {
                check.refuse(&field, problem);
            }
        }
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<Self::Request>,
    ) -> Result<Ended<CascadePlan>, Fault> {
        let account = cx.account().to_string();
        let operation = operation::named(&self.catalog, &request.resource_type, &request.operation);
        let operation = Arc::new(operation?);
        cx.finish(move |tx| {
            let (request, account) = (Arc::clone(&request), account.clone());
            let operation = Arc::clone(&operation);
            Box::pin(async move {
                let (noun, uuid) = (&request.resource_type, &request.resource_uuid);
                let found = find_for(tx, &operation, noun, uuid).await?;
                let content = found.content();
                let mut plan = request.resource();
                plan.operation = operation::name(&operation);
                let name = content.items.first().map(|item| item.name.as_str());
                let name = name.unwrap_or_default();
                plan.name = match &*operation {
                    Operation::Delete { .. } => format!("delete {noun} {name}"),
                    Operation::Other { word, .. } => format!("{word} of {noun} {name}"),
                };
                plan.account_uuid = account;
                plan.item_count = content.items.len() as u64;
                plan.blocker_count = found.blocker_count() as u64;
                plan.set_state(CascadePlanState::Planned);
                let now = now();
                plan.stamp(now);
                rows::purge(tx, now.seconds.saturating_mul(1_000_000)).await?;
                rows::insert(tx, &plan, &content).await?;
                Ok(plan)
            })
        })
        .await
    }
}
