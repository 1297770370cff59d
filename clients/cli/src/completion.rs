//! Completion by the shell: its script, and the candidates that the script asks for.
//!
//! The shell calls this program with the words so far. What can be said is what the server's
//! descriptors say, so nouns, verbs, flags and the values of enums need no list here; names of
//! resources are asked of the server. Without a server, or with a slow one, what is built in is
//! completed, and nothing is said of it.

mod bash;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cairn_proto::{
    meta::{Catalog, EnumNames, ResourceType},
    query::v1alpha1::{Query, SortDirection},
};
use clap::{Arg, Command, ValueEnum, builder::EnumValueParser};
use clap_complete::{
    CompletionCandidate,
    engine::{ArgValueCandidates, ArgValueCompleter},
    env::Shells,
};
use prost_reflect::Kind;
use tokio::time::timeout;

use crate::{
    action::{Action, Actions},
    connection::Connection,
    error::CliError,
    flag, grammar, names, query, table,
};

/// The variable by which the script asks for candidates.
pub const VARIABLE: &str = "CAIRN_COMPLETE";

/// So many names are looked through.
const NAMES: u32 = 1_000;
/// The latest of resources that go by their uuids.
const LATEST: u32 = 50;

/// A shell that can be had complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash.
    Bash,
    /// fish.
    Fish,
    /// Z shell.
    Zsh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Fish => "fish",
            Self::Zsh => "zsh",
        }
    }
}

/// `cairn completion`.
pub(crate) fn command() -> Command {
    Command::new("completion")
        .about("Print the script that has a shell complete commands, flags and names.")
        .after_help(
            "For this shell:  source <(cairn completion bash)\n\
             For good, put that line into ~/.bashrc; with zsh into ~/.zshrc, after compinit.\n\
             fish:            cairn completion fish > ~/.config/fish/completions/cairn.fish",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(EnumValueParser::<Shell>::new())
                .help("Whose script."),
        )
}

/// The script.
pub(crate) fn script(shell: Shell, out: &mut dyn io::Write) -> Result<(), CliError> {
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(shell.name()) {
        completer.write_registration(VARIABLE, "cairn", "cairn", "cairn", &mut script)?;
    }
    if shell == Shell::Bash {
        script = bash::script(&String::from_utf8_lossy(&script)).into_bytes();
    }
    Ok(out.write_all(&script)?)
}

/// What is completed, and with which names of the server.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeMap<String, Option<Vec<Named>>>>>);

/// A resource as it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    word: String,
    about: String,
}

impl Names {
    /// Those of a noun that begin so. Of a noun that was not asked for yet there are none, and
    /// it is noted.
    fn beginning(&self, noun: &str, with: &str) -> Vec<CompletionCandidate> {
        let mut known = self.lock();
        let named = known.entry(noun.to_owned()).or_default();
        let named: Vec<_> = named.iter().flatten().collect();
        let by_word = named.iter().filter(|named| named.word.starts_with(with));
        let by_word: Vec<_> = by_word
            .map(|named| candidate(&named.word, &named.about))
            .collect();
        if !by_word.is_empty() || with.is_empty() {
            return by_word;
        }
        // Somebody has the beginning of a uuid.
        let by_uuid = named.iter().filter(|named| named.about.starts_with(with));
        by_uuid
            .map(|named| candidate(&named.about, &named.word))
            .collect()
    }

    fn wanted(&self) -> Vec<String> {
        let known = self.lock();
        let wanted = known.iter().filter(|(_, named)| named.is_none());
        wanted.map(|(noun, _)| noun.clone()).collect()
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Vec<Named>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn candidate(word: &str, about: &str) -> CompletionCandidate {
    let about = Some(about).filter(|about| !about.is_empty());
    CompletionCandidate::new(word).help(about.map(|about| about.to_owned().into()))
}

/// Writes the candidates for `words`, the program's name among them, as the shell wants them.
/// Which word is completed the script tells by variables.
pub(crate) async fn complete(
    shell: &str,
    words: &[String],
    actions: &Actions,
    connection: Option<&Connection>,
    out: &mut dyn io::Write,
) -> Result<(), CliError> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(shell) else {
        return Err(CliError::Usage(format!(
            "error: `{shell}` is no shell that is known"
        )));
    };
    let names = Names::default();
    let mut command = with_values(grammar::command(actions), actions, &names);
    let mut write = |to: &mut dyn io::Write| {
        if shell.is("bash") {
            return bash::write(&mut command, words, to);
        }
        let words = words.iter().map(OsString::from).collect();
        shell.write_complete(&mut command, words, None, to)
    };
    // The first time says whose names are wanted.
    let mut text = Vec::new();
    write(&mut text)?;
    let wanted = names.wanted();
    if let Some(connection) = connection.filter(|_| !wanted.is_empty()) {
        for noun in wanted {
            let named = timeout(
                crate::COMPLETION_PATIENCE,
                of_noun(connection, actions, &noun),
            );
            let named = named.await.ok().and_then(Result::ok).unwrap_or_default();
            names.lock().insert(noun, Some(named));
        }
        text.clear();
        write(&mut text)?;
    }
    Ok(out.write_all(&text)?)
}

/// The resources of a noun, by name; those whose name is not theirs alone, or is no plain word,
/// by uuid.
async fn of_noun(
    connection: &Connection,
    actions: &Actions,
    noun: &str,
) -> Result<Vec<Named>, CliError> {
    let Some(action) = actions.find(noun, "query") else {
        return Ok(Vec::new());
    };
    let by_name = names::are_taken(noun);
    let limit = Some(if by_name { NAMES } else { LATEST });
    let latest = Query {
        fields: vec!["uuid".to_owned(), "name".to_owned()],
        sort_direction: SortDirection::Desc.into(),
        limit,
        ..Query::default()
    };
    let rows = query::find(connection, action, &latest).await?.rows;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (names::text_of(row, "name"), names::text_of(row, "uuid")))
        .collect();
    let mut count = BTreeMap::new();
    for (name, _) in &rows {
        *count.entry(name.as_str()).or_insert(0) += 1;
    }
    let of_row = |(name, uuid): &(String, String)| {
        let (word, about) = match by_name && is_word(name) && count.get(name.as_str()) == Some(&1) {
            true => (name, uuid),
            false => (uuid, name),
        };
        Named {
            word: word.clone(),
            about: table::printable(about),
        }
    };
    Ok(rows.iter().map(of_row).collect())
}

/// Whether a name can stand on any shell's command line as it is, and means itself.
fn is_word(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) && !names::is_uuid(name)
}

/// The command line with candidates at each argument that has some.
fn with_values(mut command: Command, actions: &Actions, names: &Names) -> Command {
    let all: Vec<_> = actions.nouns().flat_map(|(_, of_noun)| of_noun).collect();
    for action in all {
        if action.alone {
            command = command.mut_subcommand(&action.noun, |leaf| {
                leaf.mut_args(|arg| with_value(arg, action, &actions.catalog, names))
            });
            continue;
        }
        for (one, other) in [(&action.noun, &action.verb), (&action.verb, &action.noun)] {
            if command
                .find_subcommand(one)
                .is_none_or(|c| c.find_subcommand(other).is_none())
            {
                continue;
            }
            command = command.mut_subcommand(one, |group| {
                group.mut_subcommand(other, |leaf| {
                    leaf.mut_args(|arg| with_value(arg, action, &actions.catalog, names))
                })
            });
        }
    }
    let nouns: Vec<_> = actions
        .catalog
        .resources()
        .map(|r| r.name.clone())
        .collect();
    command.mut_subcommand("resources", |resources| {
        resources.mut_arg("noun", |noun| {
            noun.add(ArgValueCandidates::new(move || {
                nouns.iter().map(CompletionCandidate::new).collect()
            }))
        })
    })
}

fn with_value(arg: Arg, action: &Action, catalog: &Arc<Catalog>, names: &Names) -> Arg {
    let fields = grammar::request_fields(action);
    let field = fields
        .iter()
        .find(|field| arg.get_id() == flag::id(field).as_str());
    if let Some(noun) = field.and_then(flag::references) {
        let names = names.clone();
        return arg.add(ArgValueCompleter::new(move |word: &OsStr| {
            names.beginning(&noun, &word.to_string_lossy())
        }));
    }
    if let Some(kind) = field
        .map(|field| field.kind())
        .filter(|k| k.as_enum().is_some())
    {
        return arg.add(ArgValueCompleter::new(move |word: &OsStr| {
            enum_values(&kind, &word.to_string_lossy())
        }));
    }
    let Some(resource) = catalog.resource(&action.noun) else {
        return arg;
    };
    let (resource, catalog, names) = (Arc::clone(resource), Arc::clone(catalog), names.clone());
    match arg.get_id().as_str() {
        "condition" => arg.add(ArgValueCompleter::new(move |word: &OsStr| {
            condition(&resource, &catalog, &names, &word.to_string_lossy())
        })),
        "fields" | "sort" => arg.add(ArgValueCandidates::new(move || {
            let fields = resource.fields.iter();
            fields
                .map(|f| CompletionCandidate::new(&f.json_name))
                .collect()
        })),
        _ => arg,
    }
}

/// A field; after its `=` the values of an enum, or names.
fn condition(
    resource: &ResourceType,
    catalog: &Catalog,
    names: &Names,
    word: &str,
) -> Vec<CompletionCandidate> {
    let Some((field, value)) = word.split_once('=') else {
        let fields = resource
            .fields
            .iter()
            .map(|field| format!("{}=", field.json_name));
        let fields = fields.filter(|field| field.starts_with(word));
        return fields.map(CompletionCandidate::new).collect();
    };
    let Some(known) = resource.field(field) else {
        return Vec::new();
    };
    let prefix = format!("{field}=");
    let values = match &known.references {
        Some(noun) if catalog.resource(noun).is_some() => names.beginning(noun, value),
        _ => {
            let descriptor = resource.message.get_field(known.number);
            descriptor.map_or_else(Vec::new, |field| enum_values(&field.kind(), value))
        }
    };
    values
        .into_iter()
        .map(|value| value.add_prefix(&prefix))
        .collect()
}

/// The values of an enum that begin so, in any case.
fn enum_values(kind: &Kind, with: &str) -> Vec<CompletionCandidate> {
    let Some(names) = kind.as_enum().map(EnumNames::of) else {
        return Vec::new();
    };
    let with = with.to_lowercase();
    let begin = |name: &&str| name.to_lowercase().starts_with(&with);
    let names = names.names().filter(begin);
    names.map(CompletionCandidate::new).collect()
}
