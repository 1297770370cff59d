//! A delete with everything below: a plan is made, shown, and carried out if that is wanted.

use cairn_proto::cascade::v1alpha1::GetCascadePlanResponse;
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use super::{Session, operation, text_in, unary};
use crate::{
    action::Action,
    cascade::{self, Cascade, PLAN, SHOWN},
    error::CliError,
    grammar::Invocation,
};

/// Makes a plan for what the delete names, and shows it or carries it out.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    delete: &Invocation<'_>,
    wanted: Cascade,
) -> Result<(), CliError> {
    let uuid = text_in(&delete.request, "uuid");
    let create = invoke(session, delete, "create", |request| {
        set(
            request,
            "resource_type",
            Value::String(delete.action.noun.clone()),
        )?;
        set(request, "resource_uuid", Value::String(uuid.clone()))
    })?;
    let made = operation::ended(session, &create).await?;
    let plan = text_in(&made, "uuid");
    let get = invoke(session, delete, "get", |request| {
        set(request, "uuid", Value::String(plan.clone()))?;
        set(request, "limit", Value::U32(SHOWN))
    })?;
    let answer = unary(session, &get).await?;
    let found = read(&answer)?;
    if wanted == Cascade::Plan {
        let next = match found.blockers.is_empty() {
            true => {
                format!("\nNothing is deleted. `cairn execute {PLAN} {plan}` deletes all this.\n")
            }
            false => "\nNothing is deleted, nor can be while that is in the way.\n".to_owned(),
        };
        return session.print(&answer, &(cascade::text(&found) + &next));
    }
    let mut execute = invoke(session, delete, "execute", |request| {
        set(request, "uuid", Value::String(plan.clone()))
    })?;
    execute.no_wait = delete.no_wait;
    let executed = operation::ended(session, &execute).await?;
    let text = match delete.no_wait {
        true => text_in(&executed, "operation_uuid") + "\n",
        false => format!("deleted {}\n", cascade::summary(&found)),
    };
    session.print(&executed, &text)
}

/// What a get of a plan answered.
pub(super) fn read(answer: &DynamicMessage) -> Result<GetCascadePlanResponse, CliError> {
    let found = GetCascadePlanResponse::decode(answer.encode_to_vec().as_slice());
    found.map_err(|cause| CliError::Answer(cause.to_string()))
}

/// A call about plans. Its idempotency key follows from that of the delete: each call has its own.
fn invoke<'a>(
    session: &Session<'a, '_>,
    delete: &Invocation<'_>,
    verb: &str,
    fill: impl FnOnce(&mut DynamicMessage) -> Option<()>,
) -> Result<Invocation<'a>, CliError> {
    let action: Option<&'a Action> = session.actions.find(verb, PLAN);
    let unknown = || {
        CliError::Answer(format!(
            "the server's {PLAN}s are not those of this program"
        ))
    };
    let action = action.ok_or_else(unknown)?;
    let mut request = DynamicMessage::new(action.method.input());
    fill(&mut request).ok_or_else(unknown)?;
    let key = delete.idempotency_key.as_ref();
    Ok(Invocation {
        idempotency_key: key.map(|key| format!("{key}/{verb}")),
        ..Invocation::of(action, request)
    })
}

fn set(request: &mut DynamicMessage, field: &str, value: Value) -> Option<()> {
    let field = request.descriptor().get_field_by_name(field)?;
    request.try_set_field(&field, value).ok()
}
