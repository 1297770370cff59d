//! Queries: their flags, the request they become, and their answers.

use cairn_proto::query::v1alpha1::{Condition, Query, SortDirection};
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind as FieldKind, MessageDescriptor, Value};

use crate::{
    action::{Action, Kind},
    condition,
    connection::Connection,
    error::CliError,
};

/// What a query returns at most, unless it says otherwise.
const LIMIT: u32 = 1_000;

/// What a query's command line says.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct QueryArgs {
    pub(crate) conditions: Vec<Condition>,
    /// The conditions as they were written.
    pub(crate) written: Vec<String>,
    /// Which columns; none for the resource's own choice.
    pub(crate) fields: Vec<String>,
    pub(crate) sort: Option<String>,
    descending: bool,
    limit: Option<u32>,
    pub(crate) start: u64,
    /// Only the number of rows.
    pub(crate) count: bool,
    with_count: bool,
}

/// The arguments that every query has.
pub(crate) fn args() -> [Arg; 8] {
    [
        Arg::new("condition")
            .value_name("CONDITION")
            .num_args(0..)
            .action(ArgAction::Append)
            .value_parser(condition::parse)
            .help("What must hold, such as name=web; none returns every one."),
        Arg::new("fields")
            .long("fields")
            .value_name("FIELD,…")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .help("Return only these fields."),
        Arg::new("sort")
            .long("sort")
            .value_name("FIELD")
            .help("Sort by this field; by createTime if not given."),
        Arg::new("desc")
            .long("desc")
            .action(ArgAction::SetTrue)
            .help("Largest first."),
        Arg::new("limit")
            .long("limit")
            .value_name("NUMBER")
            .value_parser(value_parser!(u32))
            .help("At most this many; 1000 if not given, at most 10000."),
        Arg::new("start")
            .long("start")
            .value_name("NUMBER")
            .value_parser(value_parser!(u64))
            .help("Skip this many first."),
        Arg::new("count")
            .long("count")
            .action(ArgAction::SetTrue)
            .conflicts_with("with-count")
            .help("Only say how many there are."),
        Arg::new("with-count")
            .long("with-count")
            .action(ArgAction::SetTrue)
            .help("Also say how many there are without regard to --limit and --start."),
    ]
}

impl QueryArgs {
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        let many = matches.get_many("condition");
        let written = matches.get_raw("condition").unwrap_or_default();
        let fields = matches.get_many::<String>("fields");
        Self {
            conditions: many.unwrap_or_default().cloned().collect(),
            written: written
                .map(|text| text.to_string_lossy().into_owned())
                .collect(),
            fields: fields.unwrap_or_default().cloned().collect(),
            sort: matches.get_one("sort").cloned(),
            descending: matches.get_flag("desc"),
            limit: matches.get_one("limit").copied(),
            start: matches.get_one("start").copied().unwrap_or_default(),
            count: matches.get_flag("count"),
            with_count: matches.get_flag("with-count"),
        }
    }

    /// Whether a page of so many rows may have cut what was found.
    pub(crate) fn is_full(&self, rows: usize) -> bool {
        rows > 0 && rows as u64 >= self.limit.unwrap_or(LIMIT).into()
    }

    /// The same, asking only how many there are.
    pub(crate) fn counting(&self) -> Query {
        Query {
            conditions: self.conditions.clone(),
            count: true,
            ..Query::default()
        }
    }

    fn message(&self) -> Query {
        let direction = if self.descending {
            SortDirection::Desc
        } else {
            SortDirection::Unspecified
        };
        Query {
            conditions: self.conditions.clone(),
            fields: self.fields.clone(),
            sort_by: self.sort.clone().unwrap_or_default(),
            sort_direction: direction.into(),
            limit: self.limit,
            start: self.start,
            count: self.count,
            reply_with_count: self.with_count,
        }
    }
}

/// The flag of a field of a query.
pub(crate) fn flag_of(field: &str) -> Option<&'static str> {
    Some(match field {
        "fields" => "fields",
        "sort_by" => "sort",
        "sort_direction" => "desc",
        "limit" => "limit",
        "start" => "start",
        "count" => "count",
        "reply_with_count" => "with-count",
        _ => return None,
    })
}

/// Puts the command line's query into the request.
pub(crate) fn fill(
    action: &Action,
    args: &QueryArgs,
    request: &mut DynamicMessage,
) -> Result<(), String> {
    put(action, &args.message(), request)
}

/// What a query of the command line's own finds.
pub(crate) async fn find(
    connection: &Connection,
    action: &Action,
    query: &Query,
) -> Result<Found, CliError> {
    let mut request = DynamicMessage::new(action.method.input());
    put(action, query, &mut request).map_err(CliError::Answer)?;
    let answer = connection.unary(&action.method, request, None).await;
    let answer = answer.map_err(|status| CliError::called(&status))?;
    Found::read(&answer).map_err(CliError::Answer)
}

/// Puts a query into the request, and the noun into that of the generic query.
fn put(action: &Action, query: &Query, request: &mut DynamicMessage) -> Result<(), String> {
    let field = action.query_field().ok_or("the request has no query")?;
    let FieldKind::Message(descriptor) = field.kind() else {
        return Err("the query is no message".to_owned());
    };
    // Through bytes: the server's own version of the message may know more than ours.
    let query = DynamicMessage::decode(descriptor, query.encode_to_vec().as_slice());
    let query =
        query.map_err(|cause| format!("the server's queries are of another kind: {cause}"))?;
    request.set_field(&field, Value::Message(query));
    if action.kind == Kind::GenericQuery {
        request
            .try_set_field_by_name("resource", Value::String(action.noun.clone()))
            .map_err(|cause| cause.to_string())?;
    }
    Ok(())
}

/// What a query found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<DynamicMessage>,
    pub(crate) total: Option<u64>,
}

impl Found {
    /// Reads the answer of a query: a list of messages, or of messages of any type, and a total.
    pub(crate) fn read(answer: &DynamicMessage) -> Result<Self, String> {
        let mut found = Self::default();
        for (field, value) in answer.fields() {
            match value {
                Value::List(rows) => {
                    for row in rows.iter().filter_map(Value::as_message) {
                        found
                            .rows
                            .push(unpack(row, &field.parent_message().clone())?);
                    }
                }
                Value::U64(total) if field.name() == "total" => found.total = Some(*total),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The message in an `Any`; any other message is itself.
fn unpack(row: &DynamicMessage, from: &MessageDescriptor) -> Result<DynamicMessage, String> {
    use prost_reflect::ReflectMessage as _;
    if row.descriptor().full_name() != "google.protobuf.Any" {
        return Ok(row.clone());
    }
    let any: prost_types::Any = row.transcode_to().map_err(|cause| cause.to_string())?;
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let descriptor = from
        .parent_pool()
        .get_message_by_name(name)
        .ok_or_else(|| format!("the answer holds a {name}, which the server does not describe"))?;
    DynamicMessage::decode(descriptor, any.value.as_ref()).map_err(|cause| cause.to_string())
}
