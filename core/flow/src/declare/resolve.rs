//! From declarations to flows: what extends is followed, names become steps, and all is checked.

use std::{collections::BTreeMap, sync::Arc};

use cairn_boot::Spanned;
use prost_reflect::DescriptorPool;

use super::{
    Mistake,
    change::{Verb, change},
    file::{Change, Entry, Source},
};
use crate::{Flow, FlowError, Hook, Part, Retry, When, flow::Steps};

/// Hooks by their names.
pub(super) type NamedHooks = BTreeMap<&'static str, Arc<dyn Hook>>;

/// What declarations are resolved from.
pub(super) struct Resolver<'a> {
    pub(super) steps: &'a Arc<Steps>,
    pub(super) hooks: &'a NamedHooks,
    /// What conditions are on.
    pub(super) messages: &'a DescriptorPool,
    /// The declarations of each flow, those further down first.
    pub(super) sources: &'a BTreeMap<String, Vec<Source>>,
}

/// A place in a declaration.
type Place<'a> = (&'a Source, usize);

/// What a flow comes to, before it is checked.
#[derive(Clone)]
struct Resolved<'a> {
    parts: Vec<Part>,
    /// Where each part is declared, by its path.
    places: BTreeMap<String, Place<'a>>,
    inputs: Vec<String>,
    forward_after: Option<(String, Place<'a>)>,
    retry: Retry,
    hooks: Vec<(When, Arc<dyn Hook>)>,
}

impl<'a> Resolver<'a> {
    /// The flow of that name.
    ///
    /// # Errors
    /// The first mistake that is in its way.
    pub(super) fn flow(&self, name: &str) -> Result<Flow, Mistake> {
        let layers = self.sources.get(name).map_or(&[][..], Vec::as_slice);
        let Some(top) = layers.len().checked_sub(1) else {
            let problem = "there is no such flow".to_owned();
            return Err(nowhere(name, problem));
        };
        self.build(name, top, &mut Vec::new())
    }

    fn build(
        &self,
        name: &str,
        layer: usize,
        above: &mut Vec<(String, usize)>,
    ) -> Result<Flow, Mistake> {
        let source = &self.sources[name][layer];
        let resolved = self.resolve(source, name, layer, above)?;
        let places = resolved.places;
        let wrong = |error: FlowError, otherwise: usize| {
            let step = error.step().map(str::to_owned);
            let problem = error.problem();
            match step.as_deref().and_then(|step| place_of(&places, step)) {
                Some((at, offset)) if at.file == source.file => at.mistake(offset, step, problem),
                Some((at, offset)) => {
                    // The step stands where it fits; what was changed here makes it a mistake.
                    let place = at.mistake(offset, None, String::new()).place();
                    source.mistake(
                        otherwise,
                        step,
                        format!("{problem} (the step is in {place})"),
                    )
                }
                None => source.mistake(otherwise, step, problem),
            }
        };
        let start = source.declared.flow.span().start;
        let mut builder = Flow::builder(name)
            .retry(resolved.retry)
            .known(Arc::clone(self.steps));
        for part in resolved.parts {
            builder = builder.step(part);
        }
        for (when, hook) in resolved.hooks {
            builder = builder.shared_hook(when, hook);
        }
        if let Some((step, (at, offset))) = resolved.forward_after {
            builder = builder.forward_after(&step).map_err(|_| {
                let problem = format!("`forward_after` names `{step}`, which is no part of it");
                let flow = name.to_owned();
                let step = Some(step.clone());
                Mistake {
                    flow,
                    ..at.mistake(offset, step, problem)
                }
            })?;
        }
        let inputs: Vec<_> = resolved.inputs.iter().map(String::as_str).collect();
        builder.build(&inputs).map_err(|error| wrong(error, start))
    }

    fn resolve(
        &self,
        source: &'a Source,
        name: &str,
        layer: usize,
        above: &mut Vec<(String, usize)>,
    ) -> Result<Resolved<'a>, Mistake> {
        let declared = &source.declared;
        above.push((name.to_owned(), layer));
        let mut resolved = match &declared.extends {
            None => Resolved {
                parts: Vec::new(),
                places: BTreeMap::new(),
                inputs: Vec::new(),
                forward_after: None,
                retry: Retry::default(),
                hooks: Vec::new(),
            },
            Some(base) => {
                let at = base.span().start;
                let (base, layer) = self.lower(source, at, name, layer, base.get_ref(), above)?;
                self.resolve(&self.sources[base][layer], base, layer, above)?
            }
        };
        for entry in declared.steps.iter().flatten() {
            let part = self.part(source, entry, "", &mut resolved.places, above)?;
            resolved.parts.push(part);
        }
        for change in &declared.change {
            self.change(source, change, &mut resolved, above)?;
        }
        above.pop();
        if let Some(inputs) = &declared.inputs {
            resolved.inputs.clone_from(inputs);
        }
        if let Some(step) = &declared.forward_after {
            resolved.forward_after = Some((step.get_ref().clone(), (source, step.span().start)));
        }
        if let Some(retry) = &declared.rollback_retry {
            resolved.retry = retry.over(resolved.retry);
        }
        for (when, names) in [
            (When::Done, &declared.done),
            (When::Error, &declared.error),
            (When::Finally, &declared.finally),
        ] {
            for name in names {
                let hook = self.hooks.get(name.get_ref().as_str()).ok_or_else(|| {
                    let problem = format!("no hook `{}` is registered", name.get_ref());
                    source.mistake(name.span().start, None, problem)
                })?;
                resolved.hooks.push((when, Arc::clone(hook)));
            }
        }
        Ok(resolved)
    }

    /// The declaration that another one is built on: of the same name the one below it, of another
    /// name the topmost.
    fn lower(
        &self,
        source: &Source,
        at: usize,
        name: &str,
        layer: usize,
        base: &str,
        above: &[(String, usize)],
    ) -> Result<(&'a str, usize), Mistake> {
        let layers = if base == name { Some(layer) } else { None };
        let known = self.sources.get_key_value(base);
        let count = layers.unwrap_or_else(|| known.map_or(0, |(_, sources)| sources.len()));
        let (Some((known, _)), Some(found)) = (known, count.checked_sub(1)) else {
            let problem = match base == name {
                true => "extends itself, and there is no such flow below it".to_owned(),
                false => format!("there is no flow `{base}`; give one of: {}", self.names()),
            };
            return Err(source.mistake(at, None, problem));
        };
        if above.contains(&(base.to_owned(), found)) {
            let circle: Vec<_> = above.iter().map(|(flow, _)| flow.as_str()).collect();
            let problem = format!("is built on itself: {} → {base}", circle.join(" → "));
            return Err(source.mistake(at, None, problem));
        }
        Ok((known, found))
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.sources.keys().map(String::as_str).collect();
        names.join(", ")
    }

    fn part(
        &self,
        source: &'a Source,
        entry: &Spanned<Entry>,
        prefix: &str,
        places: &mut BTreeMap<String, Place<'a>>,
        above: &mut Vec<(String, usize)>,
    ) -> Result<Part, Mistake> {
        let at = entry.span().start;
        let part = match entry.get_ref() {
            Entry::Name(name) => self.step(source, at, name)?,
            Entry::Table(table) => {
                if let Some(name) = &table.group {
                    let mut parts = Vec::new();
                    for entry in table.steps.iter().flatten() {
                        parts.push(self.part(source, entry, prefix, places, above)?);
                    }
                    Part::group(name, parts)
                } else if let Some(flow) = &table.flow {
                    let (own, layer) = above.last().cloned().unwrap_or_default();
                    let (flow, layer) = self.lower(source, at, &own, layer, flow, above)?;
                    let inner = self.build(flow, layer, above)?;
                    Part::flow(table.name.as_deref().unwrap_or(flow), &inner)
                } else {
                    let step = table.step.as_deref().unwrap_or_default();
                    let part = self.step(source, at, step)?;
                    let name = table.name.as_deref().unwrap_or(step);
                    let condition = match &table.condition() {
                        None => None,
                        Some((when, runs)) => {
                            let wrong = |problem| {
                                source.mistake(when.span().start, Some(name.to_owned()), problem)
                            };
                            let condition = when.get_ref().condition(self.messages, *runs);
                            Some(Arc::new(condition.map_err(wrong)?))
                        }
                    };
                    let part = part.named(name).with(|options| table.options(options));
                    part.when(condition)
                }
            }
        };
        places.insert(format!("{prefix}{}", part.name), (source, at));
        Ok(part)
    }

    fn step(&self, source: &Source, at: usize, name: &str) -> Result<Part, Mistake> {
        let step = self.steps.get(name).ok_or_else(|| {
            let problem = "no service has registered a step of that name".to_owned();
            source.mistake(at, Some(name.to_owned()), problem)
        })?;
        Ok(Part::of(Arc::clone(step)))
    }

    fn change(
        &self,
        source: &'a Source,
        spanned: &Spanned<Change>,
        resolved: &mut Resolved<'a>,
        above: &mut Vec<(String, usize)>,
    ) -> Result<(), Mistake> {
        let it = spanned.get_ref();
        let verbs = [
            (&it.replace, Verb::Replace),
            (&it.remove, Verb::Replace),
            (&it.before, Verb::Before),
            (&it.after, Verb::After),
        ];
        for (target, verb) in verbs {
            let Some(target) = target else {
                continue;
            };
            let (path, at) = (target.get_ref(), target.span().start);
            let prefix = path.rsplit_once('/').map(|(flows, _)| format!("{flows}/"));
            let prefix = prefix.unwrap_or_default();
            let mut new = Vec::new();
            for entry in it.entries() {
                new.push(self.part(source, entry, &prefix, &mut resolved.places, above)?);
            }
            if !change(&mut resolved.parts, path, verb, &mut new) {
                let problem = "there is no such step in what it extends".to_owned();
                return Err(source.mistake(at, Some(path.clone()), problem));
            }
        }
        Ok(())
    }
}

/// Where a step is declared: itself, or the flow that it is in.
fn place_of<'a>(places: &BTreeMap<String, Place<'a>>, step: &str) -> Option<Place<'a>> {
    let mut path = step;
    loop {
        if let Some(place) = places.get(path) {
            return Some(*place);
        }
        path = path.rsplit_once('/')?.0;
    }
}

/// A mistake that is in no file.
pub(super) fn nowhere(flow: &str, problem: String) -> Mistake {
    Mistake {
        file: "the program".to_owned(),
        position: None,
        flow: flow.to_owned(),
        step: None,
        problem,
    }
}
