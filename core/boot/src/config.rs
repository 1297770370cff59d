//! Configuration files: TOML in, a checked value or every problem out.
//!
//! A file is wrong in two ways. Its shape may not fit the type (a key that does not exist, a text
//! where a number belongs), and its values may not fit each other or the world. The first is found
//! from the type alone, the second by [`Check`]; both are told as file, line, column, field, what
//! is wrong and what would be right. A person who starts a process should have to read that list
//! once, so reading goes on after a problem as long as there is something left to look at.

mod explain;
mod locate;

use std::{fmt, fs, io, ops::Range, path::Path};

use cairn_types::{Coded, ErrorCode};
use serde::de::DeserializeOwned;
/// A value that knows where in the file it stands, so that [`Problems::at`] can say it.
pub use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use explain::explain;
use locate::{Step, find, path_text, remove};

/// What a configuration demands of its values beyond their types.
pub trait Check {
    /// Adds a problem for each demand that is not met.
    fn check(&self, problems: &mut Problems<'_>);
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration file `{file}`")]
    Read {
        /// The file's path.
        file: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The text is not a right configuration; at least one problem.
    #[error("{} in `{file}`{}", count(problems), list(problems))]
    Invalid {
        /// The file's name.
        file: String,
        /// Everything that was found, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl Coded for ConfigError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }
}

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Line and column, both from 1; none for what is not in the file.
    pub position: Option<(usize, usize)>,
    /// The field's path, such as `store.path` or `hosts[2].name`; empty for the whole file.
    pub field: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; empty when nobody knows.
    pub right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": `{}`", self.field)?;
        }
        write!(f, ": {}", self.wrong)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

/// The problems that were found so far in one text.
pub struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    table: &'a DeTable<'a>,
    found: Vec<(usize, Problem)>,
}

impl Problems<'_> {
    /// Adds a problem of a value: what is wrong with it (`is 0`), what would be right (`use …`).
    /// The value's place and field come from the value itself.
    pub fn at<T>(
        &mut self,
        value: &Spanned<T>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        let span = value.span();
        let path = find(self.table, &span).unwrap_or_default();
        // A default value has no place in the file: its span is empty.
        let span = (!span.is_empty()).then_some(span);
        self.add(span, path_text(&path), wrong.into(), right.into());
    }

    /// Adds a problem of a field that has no value in the file: one that is missing, or left at
    /// its default.
    pub fn of(&mut self, field: &str, wrong: impl Into<String>, right: impl Into<String>) {
        self.add(None, field.to_owned(), wrong.into(), right.into());
    }

    fn add(&mut self, span: Option<Range<usize>>, field: String, wrong: String, right: String) {
        let problem = Problem {
            file: self.file.to_owned(),
            position: span.as_ref().map(|span| position(self.text, span.start)),
            field,
            wrong,
            right,
        };
        self.found
            .push((span.map_or(usize::MAX, |span| span.start), problem));
    }

    fn into_error(mut self) -> ConfigError {
        self.found.sort_by_key(|(start, _)| *start);
        let problems = self.found.into_iter().map(|(_, problem)| problem).collect();
        ConfigError::Invalid {
            file: self.file.to_owned(),
            problems,
        }
    }
}

/// Reads, parses and checks a configuration file.
///
/// # Errors
/// The file cannot be read, or is not a right configuration.
pub fn load<T: DeserializeOwned + Check>(path: impl AsRef<Path>) -> Result<T, ConfigError> {
    let file = path.as_ref().display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, &file),
        Err(cause) => Err(ConfigError::Read { file, cause }),
    }
}

/// Parses and checks a configuration text; `file` is the name that problems carry.
///
/// # Errors
/// The text is not a right configuration.
pub fn parse<T: DeserializeOwned + Check>(text: &str, file: &str) -> Result<T, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems = Problems {
        file,
        text,
        table: table.get_ref(),
        found: Vec::new(),
    };
    for error in &errors {
        problems.add(
            error.span(),
            String::new(),
            error.message().to_owned(),
            String::new(),
        );
    }
    // What a half-read table lacks or holds says nothing about the file.
    let value = if errors.is_empty() {
        shape::<T>(table.clone(), &mut problems)
    } else {
        None
    };
    if let Some(value) = &value {
        value.check(&mut problems);
    }
    match value {
        Some(value) if problems.found.is_empty() => Ok(value),
        _ => Err(problems.into_error()),
    }
}

/// Reads the value from the table. serde ends at the first misfit: what does not fit is taken out
/// and the rest read again, until the value can be read or nothing is left to take out.
fn shape<T: DeserializeOwned>(
    mut table: Spanned<DeTable<'_>>,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let mut removed: Vec<Vec<Step>> = Vec::new();
    loop {
        let error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let span = error.span();
        let path = span
            .as_ref()
            .and_then(|s| find(table.get_ref(), s))
            .unwrap_or_default();
        let explained = explain(error.message());
        let mut field = path.clone();
        field.extend(explained.missing.map(Step::Key));
        if !removed.contains(&field) {
            problems.add(span, path_text(&field), explained.wrong, explained.right);
        }
        if path.is_empty() || removed.contains(&path) {
            return None;
        }
        remove(table.get_mut(), &path);
        removed.push(path);
    }
}

/// Line and column, from 1, of a byte of the text.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    }
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect()
}

#[cfg(test)]
mod tests;
