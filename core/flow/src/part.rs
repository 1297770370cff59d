//! What a flow is made of: steps, groups of parts that run at once, and whole flows.
//!
//! The log stores the parts of a run as one line, so that recovery follows what the run began
//! with and not what the flow has become: `allocate-host,prepare[bring-image,reserve],
//! attach(lease,announce)!,record:record-result.` is a step, a group, a flow after which the run
//! only goes forward, and a step that is registered under another name. Before there were groups
//! the line had names and commas only, and no full stop; such a line is read too.

use std::{sync::Arc, time::Duration};

use crate::{Flow, Options, Retry, Step, condition::Condition, hook::Hooks};

/// A part of a flow. A step is one: where a part is asked for, give the step.
#[derive(Clone)]
pub struct Part {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Step {
        step: Arc<dyn Step>,
        options: Options,
        /// Further than the step's own, when it is left out.
        condition: Option<Arc<Condition>>,
    },
    /// They run at once.
    Group(Vec<Part>),
    /// They follow each other, under names of their own.
    Flow(Inner),
}

/// A flow in a flow.
#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) parts: Vec<Part>,
    pub(crate) hooks: Hooks,
    /// It has a point of no return, which a part cannot have.
    pub(crate) has_forward: bool,
}

impl<S: Step> From<S> for Part {
    fn from(step: S) -> Self {
        Self::of(Arc::new(step))
    }
}

impl Part {
    pub(crate) fn of(step: Arc<dyn Step>) -> Self {
        Self {
            name: step.name().to_owned(),
            kind: Kind::Step {
                options: step.options(),
                step,
                condition: None,
            },
        }
    }

    /// Parts that run at once. When one fails, the others come to their end first. None of them
    /// has what another one provides.
    #[must_use]
    pub fn group(name: impl Into<String>, parts: impl IntoIterator<Item = Self>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Group(parts.into_iter().collect()),
        }
    }

    /// A whole flow as one part. It is rolled back whole if a later part fails. Its hooks take
    /// place at the end of the operation; it has no point of no return of its own.
    #[must_use]
    pub fn flow(name: impl Into<String>, flow: &Flow) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Flow(Inner {
                parts: flow.0.parts.clone(),
                hooks: flow.0.hooks.clone(),
                has_forward: flow.0.forward_after.is_some(),
            }),
        }
    }

    /// The same under another name, which is what the log has.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same, if it is a step, with other options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        if let Kind::Step { options, .. } = &mut self.kind {
            *options = change(*options);
        }
        self
    }

    /// The same, if it is a step, for runs that this does not leave it out of.
    pub(crate) fn when(mut self, on: Option<Arc<Condition>>) -> Self {
        if let Kind::Step { condition, .. } = &mut self.kind {
            *condition = on;
        }
        self
    }

    /// [`Options::timeout`] of a step.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout(timeout))
    }

    /// [`Options::retry`] of a step.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        self.with(|options| options.retry(retry))
    }
}

/// The stored line of parts, and the part after which the run only goes forward.
pub(crate) fn line(parts: &[Part], forward_after: Option<&str>) -> String {
    let mut text = String::new();
    write(&mut text, parts, forward_after);
    text.push('.');
    text
}

fn write(text: &mut String, parts: &[Part], forward_after: Option<&str>) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&part.name);
        let (open, close, parts) = match &part.kind {
            Kind::Step { step, .. } => {
                if step.name() != part.name {
                    text.push(':');
                    text.push_str(step.name());
                }
                ("", "", &[][..])
            }
            Kind::Group(parts) => ("[", "]", parts.as_slice()),
            Kind::Flow(flow) => ("(", ")", flow.parts.as_slice()),
        };
        text.push_str(open);
        write(text, parts, None);
        text.push_str(close);
        if forward_after == Some(&part.name) {
            text.push('!');
        }
    }
}

/// A part as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) kind: StoredKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredKind {
    /// What it is registered under; not said in the line of before.
    Step(Option<String>),
    Group(Vec<Stored>),
    Flow(Vec<Stored>),
}

/// The parts of a run as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) parts: Vec<Stored>,
    /// The part after which the run only goes forward. The line of before does not say it: then
    /// it is what the flow says now.
    pub(crate) forward_after: Option<Option<String>>,
}

impl Line {
    /// `None` if the text is no such line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (body, whole) = match text.strip_suffix('.') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let mut reader = Reader {
            rest: body,
            whole,
            forward: None,
        };
        let parts = reader.parts()?;
        reader.rest.is_empty().then_some(Self {
            parts,
            forward_after: whole.then_some(reader.forward),
        })
    }
}

struct Reader<'a> {
    rest: &'a str,
    whole: bool,
    forward: Option<String>,
}

impl Reader<'_> {
    fn parts(&mut self) -> Option<Vec<Stored>> {
        let mut parts = Vec::new();
        if self.rest.is_empty() {
            return Some(parts);
        }
        loop {
            parts.push(self.part()?);
            if !self.eats(',') {
                return Some(parts);
            }
        }
    }

    fn part(&mut self) -> Option<Stored> {
        let name = self.name()?;
        let kind = if self.eats('[') {
            let parts = self.parts()?;
            StoredKind::Group(self.eats(']').then_some(parts)?)
        } else if self.eats('(') {
            let parts = self.parts()?;
            StoredKind::Flow(self.eats(')').then_some(parts)?)
        } else if self.eats(':') {
            StoredKind::Step(Some(self.name()?))
        } else {
            StoredKind::Step(self.whole.then(|| name.clone()))
        };
        if self.eats('!') {
            self.forward = Some(name.clone());
        }
        Some(Stored { name, kind })
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c| !is_name_char(c));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn eats(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// Whether a flow, a step or a group can have that name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let step = |name: &str| Stored {
            name: name.to_owned(),
            kind: StoredKind::Step(Some(name.to_owned())),
        };
        // Golden: a node of another version goes on with runs that were stored like this.
        let text = "a,g[b,f(c)],f(c,d)!,e:x.";
        let line = Line::parse(text).unwrap();
        assert_eq!(line.forward_after, Some(Some("f".to_owned())));
        let flow = |name: &str, parts| Stored {
            name: name.to_owned(),
            kind: StoredKind::Flow(parts),
        };
        let expected = [
            step("a"),
            Stored {
                name: "g".to_owned(),
                kind: StoredKind::Group(vec![step("b"), flow("f", vec![step("c")])]),
            },
            flow("f", vec![step("c"), step("d")]),
            Stored {
                name: "e".to_owned(),
                kind: StoredKind::Step(Some("x".to_owned())),
            },
        ];
        assert_eq!(line.parts, expected);
    }

    #[test]
    fn a_line_of_before_there_were_groups_is_read() {
        let line = Line::parse("enter-stopping,stop-on-hypervisor").unwrap();
        assert_eq!(line.forward_after, None);
        let names: Vec<_> = line.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["enter-stopping", "stop-on-hypervisor"]);
        assert_eq!(line.parts[0].kind, StoredKind::Step(None));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in ["a,", "a[b", "a(b].", "a b", "A", "a:", ",a", "a[]x"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
        assert!(Line::parse(".").unwrap().parts.is_empty());
    }
}
