//! The command line itself, made at run time: every noun with its verbs and every verb with its
//! nouns, down to one flag for each field of each request.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Command, value_parser};
use prost_reflect::{DynamicMessage, FieldDescriptor};

use crate::{
    action::{Action, Actions, Kind},
    cascade::{self, Cascade},
    comment,
    completion::{self, Shell},
    condition, error, flag,
    log::{self, LogArgs},
    names,
    query::{self, QueryArgs},
};

const ABOUT: &str = "The command line of Cairn.";
const USAGE: &str = "cairn [OPTIONS] <RESOURCE> <VERB> [ARGUMENTS]
       cairn [OPTIONS] <VERB> <RESOURCE> [ARGUMENTS]
       cairn resources [RESOURCE]
       cairn completion <SHELL>
       cairn version";
const HELP: &str = "\
A text given as @FILE is read from that file; @@ begins a text with @.
The exit code is 0 if it succeeded, 1 if the call failed or answered what had better not be, 2 if
the command is wrong.
`cairn completion --help` has the shell complete commands, flags and names.
`cairn <RESOURCE> --help`, `cairn <VERB> --help` and `cairn <VERB> <RESOURCE> --help` tell more.";

/// What is known of a command line before the resources are: where to ask for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Early {
    pub(crate) credential: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) json: bool,
    /// Only help is asked for, which must not wait long for a server.
    pub(crate) help: bool,
}

impl Early {
    /// How long to wait for the server.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(if self.help { 2 } else { 10 })
    }

    /// Reads the arguments without the name of the program.
    pub(crate) fn read(args: &[String]) -> Self {
        let mut early = Self {
            help: args.is_empty() || args.first().is_some_and(|word| word == "help"),
            ..Self::default()
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (flag, inline) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            match flag {
                "--" => break,
                "--json" => early.json = true,
                "--help" | "-h" | "--version" | "-V" => early.help = true,
                "--credential" => early.credential = inline.or_else(|| rest.next().cloned()),
                "--endpoint" => early.endpoint = inline.or_else(|| rest.next().cloned()),
                _ => {}
            }
        }
        early
    }
}

/// What a command line asks for.
pub(crate) enum Asked<'a> {
    /// The list of resources, or one of them.
    Resources(Option<String>),
    /// Which version this is.
    Version,
    /// The script that has a shell complete.
    Completion(Shell),
    /// A call.
    Call(Box<Invocation<'a>>),
}

/// A call with its request.
pub(crate) struct Invocation<'a> {
    pub(crate) action: &'a Action,
    pub(crate) request: DynamicMessage,
    /// Of a query: what its table shows.
    pub(crate) query: QueryArgs,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) no_wait: bool,
    /// Of a log: what of it is shown.
    pub(crate) log: LogArgs,
    /// Of a delete: what is done with all that is below.
    pub(crate) cascade: Option<Cascade>,
    /// What is to be uploaded.
    pub(crate) file: Option<PathBuf>,
    /// What had better not be is to be put right.
    pub(crate) fix: bool,
}

impl<'a> Invocation<'a> {
    /// A call with this request, and with nothing that a command line adds to it.
    pub(crate) fn of(action: &'a Action, request: DynamicMessage) -> Self {
        Self {
            action,
            request,
            query: QueryArgs::default(),
            idempotency_key: None,
            no_wait: false,
            log: LogArgs::default(),
            cascade: None,
            file: None,
            fix: false,
        }
    }

    /// How it was asked for, to tell a failure in the same words.
    pub(crate) fn asked(&self) -> error::Asked {
        error::Asked {
            request: self.action.method.input(),
            conditions: self.query.written.clone(),
        }
    }
}

/// Reads a command line, without the name of the program.
pub(crate) fn read<'a>(actions: &'a Actions, args: &[String]) -> Result<Asked<'a>, clap::Error> {
    let program = "cairn".to_owned();
    let matches = command(actions).try_get_matches_from(std::iter::once(&program).chain(args))?;
    let Some((one, matches)) = matches.subcommand() else {
        return Err(missing());
    };
    if one == "version" {
        return Ok(Asked::Version);
    }
    if let Some(shell) = matches.try_get_one::<Shell>("shell").ok().flatten() {
        return Ok(Asked::Completion(*shell));
    }
    let (action, matches) = match (actions.alone(one), matches.subcommand()) {
        (Some(action), _) => (action, matches),
        (None, Some((other, matches))) => (actions.find(one, other).ok_or_else(missing)?, matches),
        (None, None) => {
            let noun = matches.try_get_one::<String>("noun").ok().flatten();
            return Ok(Asked::Resources(noun.cloned()));
        }
    };
    let mut request = DynamicMessage::new(action.method.input());
    for field in request_fields(action) {
        flag::fill(&field, matches, &mut request);
    }
    let mut args = QueryArgs::default();
    if is_query(action) {
        args = QueryArgs::read(matches);
        query::fill(action, &args, &mut request).map_err(|problem| {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, problem)
        })?;
    }
    Ok(Asked::Call(Box::new(Invocation {
        action,
        request,
        query: args,
        idempotency_key: matches.get_one::<String>("idempotency-key").cloned(),
        no_wait: action.kind == Kind::Operation && matches.get_flag("no-wait"),
        log: match action.kind {
            Kind::Log => LogArgs::read(matches),
            _ => LogArgs::default(),
        },
        cascade: match cascade::is_offered(action, actions) {
            true => cascade::read(matches),
            false => None,
        },
        file: match action.upload {
            Some(_) => matches.get_one::<PathBuf>("file").cloned(),
            None => None,
        },
        fix: can_fix(action) && matches.get_flag("fix"),
    })))
}

fn missing() -> clap::Error {
    clap::Error::raw(
        clap::error::ErrorKind::MissingSubcommand,
        "a resource and a verb are needed; `cairn --help` lists them\n",
    )
}

fn can_fix(action: &Action) -> bool {
    let complaint = action.complaint.as_ref();
    complaint.is_some_and(|complaint| complaint.fixed_by.is_some())
}

fn is_query(action: &Action) -> bool {
    matches!(action.kind, Kind::Query | Kind::GenericQuery)
}

/// The fields that are flags: not the query, which has a language of its own, and nothing of the
/// generic query, where the noun says the rest.
pub(crate) fn request_fields(action: &Action) -> Vec<FieldDescriptor> {
    if action.kind == Kind::GenericQuery {
        return Vec::new();
    }
    let query = action.query_field();
    let request = action.method.input();
    let fields = request.fields();
    fields
        .filter(|field| query.as_ref() != Some(field))
        // The pieces are made from the file.
        .filter(|field| action.kind != Kind::Upload || flag::is_positional(field))
        .collect()
}

/// The whole command line, for parsing, help and completion.
pub(crate) fn command(actions: &Actions) -> Command {
    let mut root = Command::new("cairn")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .override_usage(USAGE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .help_template(
            "{about-with-newline}\n{usage-heading} {usage}{after-help}\n\nOptions:\n{options}",
        )
        .after_help(overview(actions))
        .args(own_args());
    for (noun, of_noun) in actions.nouns() {
        if let Some(alone) = actions.alone(noun) {
            root = root.subcommand(leaf(actions, alone, noun));
            continue;
        }
        let leaves = of_noun
            .iter()
            .map(|action| leaf(actions, action, &action.verb));
        root = root.subcommand(group(noun, about_noun(actions, noun), "VERB").subcommands(leaves));
    }
    for (verb, of_verb) in actions.verbs() {
        let leaves = of_verb
            .iter()
            .map(|action| leaf(actions, action, &action.noun));
        let about = match of_verb.as_slice() {
            [one] => comment::of_method(&one.method),
            many => format!("For {} resources.", many.len()),
        };
        root = root.subcommand(group(verb, about, "RESOURCE").subcommands(leaves));
    }
    root.subcommand(
        Command::new("resources")
            .about("List the resources and their fields.")
            .arg(
                Arg::new("noun")
                    .value_name("RESOURCE")
                    .help("Only this one, with what is said of each field."),
            ),
    )
    .subcommand(completion::command())
    .subcommand(Command::new("version").about("Say which version this is."))
}

fn group(name: &str, about: String, second: &'static str) -> Command {
    Command::new(name.to_owned())
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand_value_name(second)
        .subcommand_help_heading(if second == "VERB" {
            "Verbs"
        } else {
            "Resources"
        })
}

fn leaf(actions: &Actions, action: &Action, name: &str) -> Command {
    let about = match action.kind {
        Kind::GenericQuery => format!(
            "Returns the {} resources that fulfil all conditions.",
            action.noun
        ),
        _ => comment::of_method(&action.method),
    };
    let mut leaf = Command::new(name.to_owned())
        .about(comment::sentence(&about).to_owned())
        .long_about(about);
    let fields = request_fields(action);
    for field in &fields {
        let rivals = field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic())
            .into_iter()
            .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
            .filter(|rival| rival != field);
        let mut arg = flag::arg(field);
        for rival in rivals {
            arg = arg.conflicts_with(flag::arg(&rival).get_id().clone());
        }
        leaf = leaf.arg(arg);
    }
    let names = fields.iter().filter_map(flag::references);
    if is_query(action) {
        leaf = leaf.args(query::args()).after_help(condition::HELP);
    } else if names.into_iter().any(|noun| names::are_taken(&noun)) {
        leaf = leaf.after_help(names::HELP);
    }
    if action.kind == Kind::Log {
        leaf = leaf.args(log::args());
    }
    if cascade::is_offered(action, actions) {
        leaf = leaf.args(cascade::args());
    }
    if action.upload.is_some() {
        let file = Arg::new("file").long("file").value_name("FILE");
        let file = file.value_parser(value_parser!(PathBuf));
        leaf = leaf.arg(match action.kind {
            Kind::Upload => file
                .required(true)
                .help("The file; an upload that was cut goes on where it was."),
            _ => file
                .conflicts_with("no-wait")
                .help("The file to upload to what is created."),
        });
    }
    if can_fix(action) {
        leaf = leaf.arg(
            Arg::new("fix")
                .long("fix")
                .action(ArgAction::SetTrue)
                .help("Put right what is listed, one after the other, and say what came of each."),
        );
    }
    if action.kind == Kind::Operation {
        leaf = leaf.arg(
            Arg::new("no-wait")
                .long("no-wait")
                .action(ArgAction::SetTrue)
                .help("Return once the operation is accepted, and print its uuid."),
        );
    }
    leaf
}

fn own_args() -> [Arg; 4] {
    let own = |name: &'static str| Arg::new(name).long(name).global(true).display_order(1000);
    [
        own("json")
            .action(ArgAction::SetTrue)
            .help("Print JSON for programs; errors too, to stderr."),
        own("credential")
            .value_name("FILE")
            .help("The credential; else $CAIRN_CREDENTIAL, ~/.config/cairn/credential.json or /var/lib/cairn/admin.json."),
        own("endpoint")
            .value_name("URL")
            .help("The server to call, in place of the credential's: https://192.0.2.1:7070."),
        own("idempotency-key")
            .value_name("KEY")
            .help("A change repeated with the same key within a day takes place once."),
    ]
}

fn about_noun(actions: &Actions, noun: &str) -> String {
    let resource = actions.catalog.resource(noun);
    resource.map_or_else(
        || format!("{noun}."),
        |resource| comment::of_message(&resource.message),
    )
}

fn overview(actions: &Actions) -> String {
    let mut lines = vec!["Resources:".to_owned()];
    let nouns: Vec<_> = actions.nouns().collect();
    let width = nouns.iter().map(|(noun, _)| noun.len()).max().unwrap_or(0);
    for (noun, of_noun) in nouns {
        let verbs = of_noun.iter().filter(|action| !action.alone);
        let verbs: Vec<_> = verbs.map(|action| action.verb.as_str()).collect();
        let line = format!("  {noun:width$}  {}", verbs.join(", "));
        lines.push(line.trim_end().to_owned());
    }
    let verbs: Vec<_> = actions.verbs().into_keys().collect();
    lines.push(format!("\nVerbs:\n  {}", verbs.join(", ")));
    format!("{}\n\n{HELP}", lines.join("\n"))
}

#[cfg(test)]
mod tests;
