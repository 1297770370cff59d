//! Has what was found deleted: by the services that own it, many at once, what is below first.

use std::sync::Arc;

use cairn_operation::{At, OperationContext, Point};
use cairn_proto::{
    call::{Answer, Call, Context, Mesh, Payload},
    fault::Fault,
    meta::{Catalog, Deletion, ResourceType, option},
};
use cairn_store::{BoxFuture, Store, StoreError, Tx};
use cairn_types::{ErrorCode, TaskUuid};
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, Value};

use crate::{CascadeError, Found, find::Node, order::Order};

/// How many deletions are under way at once.
const AT_ONCE: usize = 64;

impl Found {
    /// Marks all of it as going, for a plan: see [`Tx::mark_going`].
    ///
    /// # Errors
    /// [`StoreError::GoingAlready`] if another plan is deleting one of them.
    pub async fn mark(&self, tx: &mut Tx, plan: &str) -> Result<(), StoreError> {
        let uuids: Vec<_> = self.nodes.iter().map(|node| node.uuid.as_str()).collect();
        tx.mark_going(plan, &uuids).await
    }

    /// Deletes all of it, for an operation, whose progress it tells. A repeat after a crash finds
    /// what is left and calls for that again, under the same keys. A cancel lets those end that
    /// have begun.
    ///
    /// # Errors
    /// The first failure of one of them, with what it was and how much is gone; or that the
    /// operation is to end. Then what has begun has ended too.
    ///
    /// It comes to a failpoint of flow `cascade` after each, with the noun as the step.
    pub async fn delete(&self, mesh: &Mesh, cx: &OperationContext) -> Result<(), Fault> {
        let mut order = Order::of(self);
        let total = order.count();
        let (mut running, mut gone) = (FuturesUnordered::new(), 0);
        let mut failed: Option<Fault> = None;
        loop {
            while failed.is_none() && running.len() < AT_ONCE {
                let Some(place) = order.next() else { break };
                let node = &self.nodes[place];
                running.push(async move { (place, delete(node, mesh, cx).await) });
            }
            let (place, outcome) = tokio::select! {
                biased;
                fault = cx.cancelled(), if failed.is_none() => {
                    failed = Some(fault);
                    continue;
                }
                next = running.next() => match next {
                    Some(ended) => ended,
                    None => break,
                },
            };
            let node = &self.nodes[place];
            match outcome {
                Ok(()) => {
                    cx.failpoint(At {
                        point: Point::AfterEffect,
                        flow: "cascade",
                        step: &node.resource.name,
                        direction: "run",
                    })
                    .await;
                    order.gone(place);
                    gone += 1;
                    let percent = u32::try_from(gone * 100 / total.max(1)).unwrap_or(100);
                    let what = format!("{} {}", node.resource.name, node.name);
                    cx.progress(percent, format!("{what} is gone: {gone} of {total}"));
                }
                Err(fault) => {
                    failed.get_or_insert(of_node(node, fault));
                }
            }
        }
        match failed {
            None => Ok(()),
            Some(mut fault) => {
                fault.message = format!("{}; {gone} of {total} are gone", fault.message);
                Err(fault)
            }
        }
    }
}

fn of_node(node: &Node, mut fault: Fault) -> Fault {
    let (noun, uuid) = (&node.resource.name, &node.uuid);
    fault.message = format!(
        "{noun} {} ({uuid}) cannot be deleted: {}",
        node.name, fault.message
    );
    fault.resource.get_or_insert((noun.clone(), uuid.clone()));
    fault
}

/// Deletes one; that it is gone already is a success.
async fn delete(node: &Node, mesh: &Mesh, cx: &OperationContext) -> Result<(), Fault> {
    let store = cx.store();
    let Some(row) = store.get_dynamic(&node.resource, &node.uuid).await? else {
        return Ok(());
    };
    let deleted = match store.catalog().deletion(&node.resource) {
        Deletion::Rpc(method) => call(node, &method, &row, mesh, cx).await,
        Deletion::Row => delete_row(store, &node.resource, &node.uuid).await,
        Deletion::Never => Err(CascadeError::Undeletable {
            noun: node.resource.name.clone(),
            uuid: node.uuid.clone(),
        }
        .into()),
    };
    match deleted {
        Ok(()) => Ok(()),
        Err(fault) => match store.get_dynamic(&node.resource, &node.uuid).await? {
            // Somebody else was quicker.
            None => Ok(()),
            Some(_) => Err(fault),
        },
    }
}

/// Has its service delete it, in an operation of its own, and waits for the end.
async fn call(
    node: &Node,
    method: &MethodDescriptor,
    row: &DynamicMessage,
    mesh: &Mesh,
    cx: &OperationContext,
) -> Result<(), Fault> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let Some(rpc) = mesh.method(&path) else {
        let message = format!("no node runs {path}");
        return Err(Fault::new(ErrorCode::Unavailable, message));
    };
    let request = request(cx.store().catalog(), node, method, row)?;
    let step = format!("delete/{}/{}", node.resource.name, node.uuid);
    let mut context = Context::current();
    let task = TaskUuid::of_step(cx.uuid(), &step, "run");
    context.idempotency_key = Some(Arc::from(task.to_string()));
    let bytes = request.encode_to_vec().into();
    let call = Call::from_bytes(rpc, context, bytes)
        .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
    let answer = mesh.call(call).await;
    let mut events = match answer.map_err(|status| Fault::from_status(&status))? {
        Answer::One(_) => return Ok(()),
        Answer::Stream(events) => events,
    };
    let mut last: Option<Payload> = None;
    while let Some(event) = events.next().await {
        last = Some(event.map_err(|status| Fault::from_status(&status))?);
    }
    let last = last.map(Payload::into_bytes).unwrap_or_default();
    let ended = DynamicMessage::decode(method.output(), last);
    match ended.is_ok_and(|event| event.has_field_by_name("result")) {
        true => Ok(()),
        false => {
            let message = format!("{path} ended without a result");
            Err(Fault::new(ErrorCode::Unavailable, message))
        }
    }
}

/// The request that deletes a resource: each field that names a resource of its type is its uuid,
/// each that names one of another type is what the resource itself refers to.
fn request(
    catalog: &Catalog,
    node: &Node,
    method: &MethodDescriptor,
    row: &DynamicMessage,
) -> Result<DynamicMessage, Fault> {
    let mut request = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        let rules = option(&field.options(), "cairn.meta.v1alpha1.field");
        let noun = rules.and_then(|rules| {
            let noun = rules.get_field_by_name("references")?;
            noun.as_str().map(str::to_owned)
        });
        let Some(noun) = noun.filter(|noun| catalog.resource(noun).is_some()) else {
            continue;
        };
        if field.is_list() || field.kind() != Kind::String {
            continue;
        }
        let uuid = if noun == node.resource.name {
            Some(node.uuid.clone())
        } else {
            referred(&node.resource, row, &noun)
        };
        let uuid = uuid.ok_or_else(|| {
            Fault::of(&CascadeError::NoRequest {
                noun: node.resource.name.clone(),
                uuid: node.uuid.clone(),
                method: method.full_name().to_owned(),
                problem: format!("nothing of it says what {} is", field.name()),
            })
        })?;
        request.set_field(&field, Value::String(uuid));
    }
    Ok(request)
}

/// What a row refers to by its only field for resources of that noun.
fn referred(resource: &ResourceType, row: &DynamicMessage, noun: &str) -> Option<String> {
    let mut fields = resource.fields.iter();
    let field = fields.find(|field| field.references.as_deref() == Some(noun))?;
    let value = row.get_field_by_name(&field.name)?;
    value.as_str().map(str::to_owned)
}

/// Deletes a row that is all there is of a resource.
async fn delete_row(store: &Store, resource: &Arc<ResourceType>, uuid: &str) -> Result<(), Fault> {
    let (resource, uuid) = (Arc::clone(resource), uuid.to_owned());
    let deleted = store.write(move |tx| -> BoxFuture<'_, Result<(), Fault>> {
        let (resource, uuid) = (Arc::clone(&resource), uuid.clone());
        Box::pin(async move {
            let referrers = tx.referrers(&resource.name, &uuid).await?;
            if let Some((noun, count)) = referrers.first() {
                let message = format!("it is in use by {count} {noun}");
                return Err(Fault::new(ErrorCode::InUse, message));
            }
            tx.delete_dynamic(&resource, &uuid).await?;
            Ok(())
        })
    });
    deleted.await
}
