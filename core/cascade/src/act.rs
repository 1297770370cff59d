//! Does to one resource what a cascade does to it: by the rpc that its proto names for that, as an
//! operation of its own.

use std::sync::Arc;

use cairn_operation::OperationContext;
use cairn_proto::{
    call::{Answer, Call, Context, Mesh, Payload},
    cascade::v1alpha1::CascadeAction,
    fault::Fault,
    meta::{Catalog, Deletion, FieldKind, ResourceType, option},
};
use cairn_store::{BoxFuture, Store};
use cairn_types::{ErrorCode, TaskUuid};
use futures::StreamExt as _;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, Value};

use crate::{CascadeError, Found, find::Node};

/// Does what is to be done to a node; that it is done already is a success.
pub(crate) async fn act(
    found: &Found,
    place: usize,
    mesh: &Mesh,
    cx: &OperationContext,
) -> Result<(), Fault> {
    let node = &found.nodes[place];
    let catalog = cx.store().catalog();
    let root = found.operation.method().filter(|_| place == 0);
    let acted = match node.action {
        CascadeAction::Operate => return operate(found, node, "operate", mesh, cx).await,
        CascadeAction::Stop => match catalog.stopping(&node.resource) {
            Some(stopping) => call(node, "stop", &stopping.method, mesh, cx).await,
            None => Err(no_rpc(node, "stop")),
        },
        CascadeAction::Detach => match catalog.detaching(&node.resource) {
            Some(method) => call(node, "detach", method, mesh, cx).await,
            None => Err(no_rpc(node, "detach")),
        },
        // What was asked for, which may be less than what its type's deletion in a cascade is.
        _ if root.is_some() => operate(found, node, "delete", mesh, cx).await,
        _ => match catalog.deletion(&node.resource) {
            Deletion::Rpc(method) => call(node, "delete", &method, mesh, cx).await,
            Deletion::Row => delete_row(cx.store(), &node.resource, &node.uuid).await,
            Deletion::Never => Err(CascadeError::Undeletable {
                noun: node.resource.name.clone(),
                uuid: node.uuid.clone(),
            }
            .into()),
        },
    };
    match acted {
        Ok(()) => Ok(()),
        // Somebody else was quicker, or this one before a crash.
        Err(_) if is_done(node, cx.store()).await? => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Does the cascade's operation to the node that it begins with. `step` keeps two calls apart.
pub(crate) async fn operate(
    found: &Found,
    node: &Node,
    step: &str,
    mesh: &Mesh,
    cx: &OperationContext,
) -> Result<(), Fault> {
    match found.operation.method() {
        Some(method) => call(node, step, method, mesh, cx).await,
        None => Err(no_rpc(node, step)),
    }
}

fn no_rpc(node: &Node, what: &str) -> Fault {
    let message = format!("no rpc does {what} a {}", node.resource.name);
    Fault::new(ErrorCode::Internal, message)
}

/// Whether what is to be done to a node is done: it is gone, or is stopped.
async fn is_done(node: &Node, store: &Store) -> Result<bool, Fault> {
    let Some(row) = store.get_dynamic(&node.resource, &node.uuid).await? else {
        return Ok(true);
    };
    let stopping = store.catalog().stopping(&node.resource);
    let Some(stopping) = stopping.filter(|_| node.action == CascadeAction::Stop) else {
        return Ok(false);
    };
    let state = row.get_field_by_name(&stopping.field);
    let number = state.and_then(|state| state.as_enum_number());
    let field = node.resource.field(&stopping.field);
    let name = number.and_then(|number| match &field?.kind {
        FieldKind::Enum(names) => names.name(number),
        _ => None,
    });
    Ok(name.is_some_and(|name| stopping.stopped.iter().any(|stopped| stopped == name)))
}

/// Has its service do it, in an operation of its own, and waits for the end.
async fn call(
    node: &Node,
    step: &str,
    method: &MethodDescriptor,
    mesh: &Mesh,
    cx: &OperationContext,
) -> Result<(), Fault> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let Some(rpc) = mesh.method(&path) else {
        let message = format!("no node runs {path}");
        return Err(Fault::new(ErrorCode::Unavailable, message));
    };
    let request = request(cx.store(), node, method).await?;
    let step = format!("{step}/{}/{}", node.resource.name, node.uuid);
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

/// The request for a resource: each field that names a resource of its type is its uuid, each that
/// names one of another type is what the resource itself refers to.
async fn request(
    store: &Store,
    node: &Node,
    method: &MethodDescriptor,
) -> Result<DynamicMessage, Fault> {
    let mut request = DynamicMessage::new(method.input());
    let mut row = None;
    for field in method.input().fields() {
        let Some(noun) = noun_of(&field, store.catalog()) else {
            continue;
        };
        let uuid = if noun == node.resource.name {
            Some(node.uuid.clone())
        } else {
            if row.is_none() {
                let found = store.get_dynamic(&node.resource, &node.uuid).await?;
                let (noun, uuid) = (&node.resource.name, &node.uuid);
                row = Some(found.ok_or_else(|| Fault::not_found(noun, uuid))?);
            }
            row.as_ref()
                .and_then(|row| referred(&node.resource, row, &noun))
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

/// The noun of what a field of a request names, if it names one resource.
fn noun_of(field: &prost_reflect::FieldDescriptor, catalog: &Catalog) -> Option<String> {
    let rules = option(&field.options(), "cairn.meta.v1alpha1.field")?;
    let noun = rules.get_field_by_name("references")?.as_str()?.to_owned();
    let names_one = !field.is_list() && field.kind() == Kind::String;
    (names_one && catalog.resource(&noun).is_some()).then_some(noun)
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
