//! After a start: what had not ended goes on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cairn_proto::{call::Context, fault::Fault};
use tracing::{error, info, warn};

use crate::{
    OperationError,
    acceptor::entry,
    live::Live,
    metrics,
    operations::Inner,
    row::{self, Unended},
    run::holds,
};

impl Inner {
    /// Puts every operation that had not ended into its queue, in the order of acceptance.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<usize, Fault> {
        let mut recovered = 0;
        let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
        // What the queues of a parent are, its children enter without waiting, as they did.
        let mut held: HashMap<String, Arc<[String]>> = HashMap::new();
        let mut found = Vec::new();
        for unended in row::unended(&self.store, &self.logs).await? {
            let Unended {
                operation,
                request,
                has_log,
                traceparent,
            } = unended;
            let uuid = row::parse(&operation.uuid)?;
            if self.hub.get(uuid).is_some_and(|live| live.is_running()) {
                continue;
            }
            let Some(handler) = self.handlers.get(operation.method.as_str()) else {
                *unknown.entry(operation.method).or_default() += 1;
                continue;
            };
            let live = self.hub.join(Live::new(&operation)?);
            let account = operation.account_uuid.parse();
            let mut context =
                Context::of(account.map_err(|_| row::unreadable(&operation.uuid, "account"))?);
            context.traceparent = traceparent;
            if let Some(parent) = operation.parent_uuid.as_deref() {
                context.operation = Some(row::parse(parent)?);
                context.held = held.get(parent).cloned().unwrap_or(context.held);
            }
            let plan = handler.plan(&request).unwrap_or_else(|| {
                Err(OperationError::Unreadable {
                    operation: operation.uuid.clone(),
                    what: "request",
                }
                .into())
            });
            match plan {
                Ok(plan) => {
                    held.insert(operation.uuid, holds(&plan, &context));
                    found.push((live, plan, context, has_log));
                }
                Err(fault) if has_log => {
                    error!(operation = %uuid, error = fault.message, "cannot be taken up: it stays");
                }
                Err(fault) => self.refuse(live, &context, fault).await?,
            }
        }
        // What ran is in its queue before what waited, whatever their priorities are.
        found.sort_by_key(|(.., has_log)| !has_log);
        for (live, plan, context, has_log) in found {
            let entry = entry(live.uuid, &plan, &context);
            let entry = if has_log { entry.resumed() } else { entry };
            match self.queues.enter(entry) {
                Ok(ticket) => {
                    self.start(live, plan, context, ticket, has_log);
                    recovered += 1;
                }
                Err(refused) => {
                    metrics::refused(&refused);
                    self.refuse(live, &context, refused.into()).await?;
                }
            }
        }
        for (method, count) in unknown {
            warn!(
                method,
                count, "accepted operations wait: nothing here handles their method"
            );
        }
        if recovered > 0 {
            info!(operations = recovered, "recovered");
        }
        Ok(recovered)
    }

    /// Ends an operation whose request is no longer good, before it did anything.
    async fn refuse(&self, live: Arc<Live>, context: &Context, fault: Fault) -> Result<(), Fault> {
        let ending = self
            .context(live.clone(), context, false)
            .fail(fault)
            .await?;
        self.hub.remove(live.uuid);
        metrics::ended(&ending.operation);
        live.end(ending);
        Ok(())
    }
}
