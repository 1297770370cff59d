//! The shape of a file that declares a flow.

use std::{fmt, time::Duration};

use cairn_boot::{Check, Problems, Spanned, config};
use prost_reflect::DescriptorPool;
use serde::{Deserialize, Deserializer, de};

use super::Mistake;
use crate::{
    Options, Retry,
    condition::{Condition, Literal},
};

/// A file with its text, for places in it.
pub(super) struct Source {
    pub(super) file: String,
    text: String,
    pub(super) declared: Declared,
}

impl Source {
    /// Reads a declaration.
    ///
    /// # Errors
    /// What does not fit its shape.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Vec<Mistake>> {
        let flow = file.rsplit('/').next().unwrap_or(file);
        let flow = flow.strip_suffix(".toml").unwrap_or(flow);
        let mistake = |position, problem| Mistake {
            file: file.to_owned(),
            position,
            flow: flow.to_owned(),
            step: None,
            problem,
        };
        let declared: Declared = match config::parse(text, file) {
            Ok(declared) => declared,
            Err(config::ConfigError::Invalid { problems, .. }) => {
                let mistakes = problems.into_iter().map(|problem| {
                    let config::Problem {
                        position,
                        field,
                        wrong,
                        right,
                        ..
                    } = problem;
                    let (place, then) = (
                        if field.is_empty() {
                            field
                        } else {
                            format!("`{field}` ")
                        },
                        if right.is_empty() {
                            right
                        } else {
                            format!("; {right}")
                        },
                    );
                    mistake(position, format!("{place}{wrong}{then}"))
                });
                return Err(mistakes.collect());
            }
            Err(error) => return Err(vec![mistake(None, error.to_string())]),
        };
        let source = Self {
            file: file.to_owned(),
            text: text.to_owned(),
            declared,
        };
        let name = &source.declared.flow;
        if name.get_ref() != flow {
            let problem = format!("is in a file that is named after `{flow}`; give both one name");
            return Err(vec![source.mistake(name.span().start, None, problem)]);
        }
        Ok(source)
    }

    /// A mistake at an offset of the text.
    pub(super) fn mistake(&self, at: usize, step: Option<String>, problem: String) -> Mistake {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Mistake {
            file: self.file.clone(),
            position: Some((line, column)),
            flow: self.declared.flow.get_ref().clone(),
            step,
            problem,
        }
    }
}

/// What a file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declared {
    pub(super) flow: Spanned<String>,
    #[serde(default)]
    pub(super) extends: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) inputs: Option<Vec<String>>,
    #[serde(default)]
    pub(super) steps: Option<Vec<Spanned<Entry>>>,
    #[serde(default)]
    pub(super) change: Vec<Spanned<Change>>,
    #[serde(default)]
    pub(super) forward_after: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) rollback_retry: Option<RetryEntry>,
    #[serde(default)]
    pub(super) done: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) error: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) finally: Vec<Spanned<String>>,
}

impl Check for Declared {
    fn check(&self, problems: &mut Problems<'_>) {
        match (&self.extends, &self.steps) {
            (None, None) => problems.at(
                &self.flow,
                "has no steps",
                "give `steps`, or `extends` and what changes",
            ),
            (Some(extends), Some(_)) => problems.at(
                extends,
                "stands beside `steps`",
                "give one of them; what differs from the other flow is a `change`",
            ),
            (None, Some(_)) => {
                for change in &self.change {
                    let wrong = "changes nothing that was extended";
                    problems.at(change, wrong, "change the steps themselves");
                }
            }
            (Some(_), None) => {}
        }
        for entry in self.steps.iter().flatten() {
            entry.get_ref().check(entry, problems);
        }
        for change in &self.change {
            let wrong = change.get_ref().wrong();
            if let Some(wrong) = wrong {
                let right =
                    "use `replace` and `with`, `before` or `after` and `insert`, or `remove`";
                problems.at(change, wrong, right);
            }
            for entry in change.get_ref().entries() {
                entry.get_ref().check(entry, problems);
            }
        }
    }
}

/// A part, as its name or as a table.
pub(super) enum Entry {
    Name(String),
    Table(Box<Table>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    #[serde(default)]
    pub(super) step: Option<String>,
    #[serde(default)]
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) flow: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) steps: Option<Vec<Spanned<Entry>>>,
    #[serde(default)]
    timeout_secs: Option<u64>,
    #[serde(default)]
    retry: Option<RetryEntry>,
    #[serde(default)]
    rollback: Option<bool>,
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    run_if: Option<Spanned<When>>,
    #[serde(default)]
    skip_if: Option<Spanned<When>>,
}

impl Entry {
    fn check(&self, at: &Spanned<Self>, problems: &mut Problems<'_>) {
        let Self::Table(table) = self else {
            return;
        };
        let kinds = [&table.step, &table.group, &table.flow];
        if kinds.into_iter().flatten().count() != 1 {
            let wrong = "is not one thing";
            problems.at(at, wrong, "give one of `step`, `group` and `flow`");
            return;
        }
        if table.group.is_some() != table.steps.is_some() {
            problems.at(
                at,
                "has `steps` or `group` alone",
                "give a group its `steps`",
            );
        }
        if table.group.is_some() && table.name.is_some() {
            problems.at(at, "has two names", "leave `name` out: `group` is the name");
        }
        let tried = table.timeout_secs.is_some() || table.retry.is_some();
        if table.step.is_none() && (tried || table.rollback.is_some() || table.weight.is_some()) {
            let wrong = "says how it is tried, which only a step can";
            problems.at(at, wrong, "say it of the steps in it");
        }
        table.check_condition(at, problems);
        if table.timeout_secs == Some(0) {
            problems.at(at, "has a `timeout_secs` of 0", "use 1 or more");
        }
        if table
            .retry
            .as_ref()
            .is_some_and(|retry| retry.attempts == Some(0))
        {
            problems.at(at, "has 0 attempts", "use 1 or more");
        }
        for entry in table.steps.iter().flatten() {
            entry.get_ref().check(entry, problems);
        }
    }
}

impl Table {
    /// When it runs, or when it is left out; whether the former.
    pub(super) fn condition(&self) -> Option<(&Spanned<When>, bool)> {
        let runs = self.run_if.as_ref().map(|when| (when, true));
        runs.or_else(|| self.skip_if.as_ref().map(|when| (when, false)))
    }

    fn check_condition(&self, at: &Spanned<Entry>, problems: &mut Problems<'_>) {
        let Some((when, _)) = self.condition() else {
            return;
        };
        if self.step.is_none() {
            let wrong = "says when it is left out, which only a step can be";
            problems.at(at, wrong, "say it of the steps in it");
        }
        if self.run_if.is_some() && self.skip_if.is_some() {
            let wrong = "has two conditions";
            problems.at(at, wrong, "give one of `run_if` and `skip_if`");
        }
        if when.get_ref().is.is_some() == when.get_ref().set.is_some() {
            let wrong = "does not say what the field is to be";
            problems.at(when, wrong, "give one of `is` and `set`");
        }
    }

    /// The options of a step, where this says something of them.
    pub(super) fn options(&self, mut options: Options) -> Options {
        if let Some(secs) = self.timeout_secs {
            options.timeout = Some(Duration::from_secs(secs));
        }
        if let Some(retry) = &self.retry {
            options.retry = retry.over(options.retry);
        }
        options.rollback = self.rollback.unwrap_or(options.rollback);
        options.weight = self.weight.unwrap_or(options.weight);
        options
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a step, or a table with `step`, `group` or `flow`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Entry, E> {
                Ok(Entry::Name(name.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Entry::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// A condition on a field of a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Its full name.
    message: String,
    /// `host_uuid`, or `spec.memory_bytes`.
    field: String,
    #[serde(default)]
    is: Option<Literal>,
    #[serde(default)]
    set: Option<bool>,
}

impl When {
    /// The condition; or why there is no such field.
    pub(super) fn condition(
        &self,
        messages: &DescriptorPool,
        runs: bool,
    ) -> Result<Condition, String> {
        let field = (self.message.as_str(), self.field.as_str());
        match (&self.is, self.set) {
            (Some(value), _) => Condition::is(messages, field, value, runs),
            (None, set) => Condition::set(messages, field, set.unwrap_or(true), runs),
        }
    }
}

/// How failures are tried again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryEntry {
    #[serde(default)]
    attempts: Option<u32>,
    #[serde(default)]
    first_ms: Option<u64>,
    #[serde(default)]
    longest_ms: Option<u64>,
}

impl RetryEntry {
    pub(super) fn over(&self, retry: Retry) -> Retry {
        let time = |ms: Option<u64>, other| ms.map_or(other, Duration::from_millis);
        Retry {
            attempts: self.attempts.unwrap_or(retry.attempts).max(1),
            first: time(self.first_ms, retry.first),
            longest: time(self.longest_ms, retry.longest),
        }
    }
}

/// What differs from the flow that is extended.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default)]
    pub(super) replace: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) with: Option<Vec<Spanned<Entry>>>,
    #[serde(default)]
    pub(super) before: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) after: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) insert: Option<Vec<Spanned<Entry>>>,
    #[serde(default)]
    pub(super) remove: Option<Spanned<String>>,
}

impl Change {
    fn wrong(&self) -> Option<&'static str> {
        let verbs = [&self.replace, &self.before, &self.after, &self.remove];
        if verbs.into_iter().flatten().count() != 1 {
            return Some("is not one change");
        }
        let inserts = self.before.is_some() || self.after.is_some();
        let fits =
            self.replace.is_some() == self.with.is_some() && inserts == self.insert.is_some();
        (!fits).then_some("does not say what comes there")
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Spanned<Entry>> {
        self.with.iter().chain(&self.insert).flatten()
    }
}
