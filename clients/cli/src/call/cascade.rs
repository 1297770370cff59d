//! A call with all that has to be done with it: a plan is made, shown, and carried out if that is
//! wanted.

use cairn_proto::{
    cascade::v1alpha1::{CascadeAction, CascadeItem, CascadeMode, GetCascadePlanResponse},
    meta::option,
    query::v1alpha1::{Condition, Operator, Query},
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};

use super::{Session, operation, text_in, unary};
use crate::{
    action::Action,
    cascade::{self, Cascade, PLAN, SHOWN},
    error::CliError,
    grammar::Invocation,
    query,
};

/// Makes a plan for what the call does, and shows it or carries it out.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    call: &Invocation<'_>,
    wanted: Cascade,
) -> Result<(), CliError> {
    let (noun, uuid) = root(session, call).await?;
    let operation = call.action.method.name().to_owned();
    let create = invoke(session, call, "create", |request| {
        set(request, "resource_type", Value::String(noun))?;
        set(request, "resource_uuid", Value::String(uuid))?;
        set(request, "operation", Value::String(operation))
    })?;
    let made = operation::ended(session, &create).await?;
    let plan = text_in(&made, "uuid");
    let get = invoke(session, call, "get", |request| {
        set(request, "uuid", Value::String(plan.clone()))?;
        set(request, "limit", Value::U32(SHOWN))
    })?;
    let answer = unary(session, &get).await?;
    let found = read(&answer)?;
    let Cascade::Execute { enforce } = wanted else {
        let next = match found.blockers.is_empty() {
            true => {
                format!("\nNothing is changed. `cairn execute {PLAN} {plan}` does all this.\n")
            }
            false => "\nNothing is changed, nor can be while that is in the way.\n".to_owned(),
        };
        return session.print(&answer, &(cascade::text(&found) + &next));
    };
    let mut execute = invoke(session, call, "execute", |request| {
        if enforce {
            let enforcing = CascadeMode::Enforcing.into();
            set(request, "mode", Value::EnumNumber(enforcing))?;
        }
        set(request, "uuid", Value::String(plan.clone()))
    })?;
    execute.no_wait = call.no_wait;
    let executed = operation::ended(session, &execute).await?;
    let summary = cascade::summary(&found);
    let text = match found.items.first().map(CascadeItem::action) {
        _ if call.no_wait => text_in(&executed, "operation_uuid") + "\n",
        Some(CascadeAction::Delete) => format!("deleted {summary}\n"),
        _ => format!("done; {summary}\n"),
    };
    session.print(&executed, &text)
}

/// What the call does something to: its noun and its uuid. If it is not what the call is for, then
/// the one resource that refers to all that the call names: an attachment, which a detach deletes.
async fn root(
    session: &Session<'_, '_>,
    call: &Invocation<'_>,
) -> Result<(String, String), CliError> {
    let action = call.action;
    let cascade = session.actions.catalog.cascade_of(&action.method);
    let Some((resource, _)) = cascade.filter(|(resource, _)| resource.name != action.noun) else {
        return Ok((action.noun.clone(), text_in(&call.request, "uuid")));
    };
    let mut conditions = Vec::new();
    for field in action.method.input().fields() {
        let Some(noun) = rule(&field).filter(|noun| !noun.is_empty()) else {
            continue;
        };
        let mut fields = resource.fields.iter();
        let by = fields.find(|by| by.references.as_ref() == Some(&noun));
        if let Some(by) = by {
            conditions.push(Condition {
                field: by.name.clone(),
                operator: Operator::Eq.into(),
                values: vec![text_in(&call.request, field.name())],
            });
        }
    }
    let noun = &resource.name;
    let query = session.actions.find("query", noun);
    let query = query.ok_or_else(|| CliError::Answer(format!("there is no query for {noun}")))?;
    let wanted = Query {
        conditions,
        ..Query::default()
    };
    let found = query::find(session.connection, query, &wanted).await?;
    match found.rows.as_slice() {
        [one] => Ok((noun.clone(), text_in(one, "uuid"))),
        rows => Err(CliError::Usage(format!(
            "error: the call is about one {noun}; there are {}\n",
            rows.len()
        ))),
    }
}

/// The noun of what a field of a request names.
fn rule(field: &FieldDescriptor) -> Option<String> {
    let rules = option(&field.options(), "cairn.meta.v1alpha1.field")?;
    let noun = rules.get_field_by_name("references")?;
    noun.as_str().map(str::to_owned)
}

/// What a get of a plan answered.
pub(super) fn read(answer: &DynamicMessage) -> Result<GetCascadePlanResponse, CliError> {
    let found = GetCascadePlanResponse::decode(answer.encode_to_vec().as_slice());
    found.map_err(|cause| CliError::Answer(cause.to_string()))
}

/// A call about plans. Its idempotency key follows from that of the call: each has its own.
fn invoke<'a>(
    session: &Session<'a, '_>,
    call: &Invocation<'_>,
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
    let key = call.idempotency_key.as_ref();
    Ok(Invocation {
        idempotency_key: key.map(|key| format!("{key}/{verb}")),
        ..Invocation::of(action, request)
    })
}

fn set(request: &mut DynamicMessage, field: &str, value: Value) -> Option<()> {
    let field = request.descriptor().get_field_by_name(field)?;
    request.try_set_field(&field, value).ok()
}
