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
        // Of one moment, or some would have lost what they are a part of; and nothing waits for it.
        let (asked, by) = (Arc::clone(&request), Arc::clone(&operation));
        let found = cx.store().snapshot(move |tx| {
            let (asked, by) = (Arc::clone(&asked), Arc::clone(&by));
            Box::pin(async move {
                let found = find_for(tx, &by, &asked.resource_type, &asked.resource_uuid).await?;
                Ok::<_, Fault>((found.content(), found.blocker_count()))
            })
        });
        let (content, blocker_count) = found.await?;
        let mut plan = request.resource();
        plan.operation = operation::name(&operation);
        let (noun, root) = (&request.resource_type, content.items.first());
        let name = root.map_or("", |item| &item.name);
        plan.name = match &*operation {
            Operation::Delete { .. } => format!("delete {noun} {name}"),
            Operation::Other { word, .. } => format!("{word} of {noun} {name}"),
        };
        plan.account_uuid = account;
        plan.item_count = content.items.len() as u64;
        plan.blocker_count = blocker_count as u64;
        plan.set_state(CascadePlanState::Planned);
        let now = now();
        plan.stamp(now);
        let content = Arc::new(content);
        cx.finish(move |tx| {
            let (plan, content) = (plan.clone(), Arc::clone(&content));
            Box::pin(async move {
                rows::purge(tx, now.seconds.saturating_mul(1_000_000)).await?;
                rows::insert(tx, &plan, &content).await?;
                Ok(plan)
            })
        })
        .await
    }
}
