//! What is wrong with the parts of a flow, before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    FlowError, Step,
    condition::Condition,
    part::{Kind, Part, is_name},
};

/// Who provides each message, by full name.
type Provided = BTreeMap<String, String>;

/// That the parts have names of their own, and each step what it needs, from `inputs` or from
/// steps before it; and what it provides, no other step provides unseen.
pub(crate) fn check(flow: &str, parts: &[Part], inputs: &[String]) -> Result<(), FlowError> {
    if !is_name(flow) {
        return Err(FlowError::Name {
            flow: flow.to_owned(),
            step: flow.to_owned(),
        });
    }
    let inputs = inputs
        .iter()
        .map(|input| (input.clone(), "an input".to_owned()));
    Checker { flow }.sequence(parts, "", &mut inputs.collect())
}

struct Checker<'a> {
    flow: &'a str,
}

impl Checker<'_> {
    fn sequence(
        &self,
        parts: &[Part],
        prefix: &str,
        there: &mut Provided,
    ) -> Result<(), FlowError> {
        let mut names = BTreeSet::new();
        self.names(parts, prefix, &mut names)?;
        for part in parts {
            self.part(part, prefix, there)?;
        }
        Ok(())
    }

    /// A group has no names of its own: what is in it shares those around it.
    fn names<'p>(
        &self,
        parts: &'p [Part],
        prefix: &str,
        names: &mut BTreeSet<&'p str>,
    ) -> Result<(), FlowError> {
        for part in parts {
            let (flow, step) = (self.flow.to_owned(), format!("{prefix}{}", part.name));
            if !is_name(&part.name) {
                return Err(FlowError::Name { flow, step });
            }
            if !names.insert(&part.name) {
                return Err(FlowError::Duplicate { flow, step });
            }
            if let Kind::Group(parts) = &part.kind {
                self.names(parts, prefix, names)?;
            }
        }
        Ok(())
    }

    fn part(&self, part: &Part, prefix: &str, there: &mut Provided) -> Result<(), FlowError> {
        let path = format!("{prefix}{}", part.name);
        let empty = || FlowError::Empty {
            flow: self.flow.to_owned(),
            step: path.clone(),
        };
        match &part.kind {
            Kind::Step {
                step, condition, ..
            } => self.step((&**step, condition.as_deref()), &path, there),
            Kind::Group(parts) if parts.is_empty() => Err(empty()),
            Kind::Group(parts) => self.group(parts, prefix, there),
            Kind::Flow(inner) if inner.parts.is_empty() => Err(empty()),
            Kind::Flow(inner) if inner.has_forward => Err(FlowError::InnerForward {
                flow: self.flow.to_owned(),
                step: path,
            }),
            Kind::Flow(inner) => self.sequence(&inner.parts, &format!("{path}/"), there),
        }
    }

    fn step(
        &self,
        (step, condition): (&dyn Step, Option<&Condition>),
        path: &str,
        there: &mut Provided,
    ) -> Result<(), FlowError> {
        let needs = step.needs().iter().copied();
        let mut needs = needs.chain(condition.map(Condition::message));
        if let Some(missing) = needs.find(|need| !there.contains_key(*need)) {
            return Err(FlowError::Missing {
                flow: self.flow.to_owned(),
                step: path.to_owned(),
                message: missing.to_owned(),
            });
        }
        if condition.is_some() {
            // What it provides may not be there.
            return Ok(());
        }
        for provided in step.provides() {
            let before = there.insert((*provided).to_owned(), path.to_owned());
            match before {
                // Who needs what it provides changes it, and means to.
                Some(before) if !step.needs().contains(provided) => {
                    return Err(self.conflict(path, provided, before));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn group(&self, parts: &[Part], prefix: &str, there: &mut Provided) -> Result<(), FlowError> {
        let before = there.clone();
        let mut added = Provided::new();
        for part in parts {
            let mut seen = before.clone();
            self.part(part, prefix, &mut seen)?;
            for (message, by) in seen {
                if before.get(&message) == Some(&by) {
                    continue;
                }
                if let Some(other) = added.insert(message.clone(), by.clone()) {
                    return Err(self.conflict(&by, &message, other));
                }
            }
        }
        there.extend(added);
        Ok(())
    }

    fn conflict(&self, step: &str, message: &str, other: String) -> FlowError {
        FlowError::Conflict {
            flow: self.flow.to_owned(),
            step: step.to_owned(),
            message: message.to_owned(),
            other,
        }
    }
}
