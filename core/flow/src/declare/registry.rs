//! What services bring to the flows of a process, and what comes of it.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use cairn_operation::Handler;
use cairn_proto::{call::Method, meta::Catalog};
use prost::Name;

use super::{
    Mistake, WrongFlows,
    file::Source,
    resolve::{NamedHooks, Resolver, nowhere},
};
use crate::{Flow, FlowError, Hook, Step, flow::Steps};

/// The steps, the hooks and the declared flows of a process. Each service adds its own, and says
/// each once.
///
/// ```
/// use async_trait::async_trait;
/// use cairn_flow::{Outcome, Registry, Step, StepContext};
/// use cairn_proto::fault::Fault;
///
/// struct Greet;
///
/// #[async_trait]
/// impl Step for Greet {
///     fn name(&self) -> &'static str {
///         "greet"
///     }
///
///     async fn run(&self, _: &StepContext<'_>) -> Result<Outcome, Fault> {
///         Ok(Outcome::none())
///     }
/// }
///
/// let mut registry = Registry::default();
/// registry.step(Greet);
/// registry.flow("meet.toml", "flow = 'meet'\nsteps = ['greet', { step = 'greet', name = 'again' }]");
/// let flows = registry.resolve(None)?;
/// let meet = flows.get("meet");
/// let steps = meet.iter().flat_map(|flow| flow.steps());
/// assert!(steps.map(|step| step.path).eq(["greet", "again"]));
///
/// let mut registry = Registry::default();
/// registry.flow("meet.toml", "flow = 'meet'\nsteps = ['greet']");
/// assert_eq!(
///     registry.resolve(None).unwrap_err().to_string(),
///     "the flows do not fit together\n  \
///      meet.toml:2:10: flow meet, step greet: no service has registered a step of that name"
/// );
/// # Ok::<(), cairn_flow::WrongFlows>(())
/// ```
#[derive(Default)]
pub struct Registry {
    steps: Steps,
    hooks: NamedHooks,
    files: Vec<(&'static str, &'static str)>,
    mistakes: Vec<Mistake>,
    catalog: Option<Arc<Catalog>>,
}

impl Registry {
    /// Adds a step, under its name.
    pub fn step(&mut self, step: impl Step) -> &mut Self {
        let name = step.name();
        if self.steps.insert(name, Arc::new(step)).is_some() {
            let mut mistake = nowhere("", format!("step `{name}` is registered twice"));
            mistake.step = Some(name.to_owned());
            self.mistakes.push(mistake);
        }
        self
    }

    /// Adds a hook, under a name.
    pub fn hook(&mut self, name: &'static str, hook: impl Hook) -> &mut Self {
        if self.hooks.insert(name, Arc::new(hook)).is_some() {
            let problem = format!("hook `{name}` is registered twice");
            self.mistakes.push(nowhere("", problem));
        }
        self
    }

    /// Says what messages there are, for conditions on them, if they are more than the built-in
    /// ones.
    pub fn catalog(&mut self, catalog: &Arc<Catalog>) -> &mut Self {
        self.catalog = Some(Arc::clone(catalog));
        self
    }

    /// Adds an embedded declaration; `file` is its name, with which its mistakes are told:
    /// `create-vm-instance.toml`.
    pub fn flow(&mut self, file: &'static str, text: &'static str) -> &mut Self {
        self.files.push((file, text));
        self
    }

    /// The flows, with those of `directory` over the embedded ones.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn resolve(self, directory: Option<&Path>) -> Result<Flows, WrongFlows> {
        let Self {
            steps,
            hooks,
            files,
            mut mistakes,
            catalog,
        } = self;
        let catalog = catalog.unwrap_or_else(Catalog::built_in);
        let mut sources: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for (file, text) in files {
            add(Source::parse(file, text), 0, &mut sources, &mut mistakes);
        }
        let embedded: BTreeMap<_, _> = sources
            .iter()
            .map(|(flow, layers)| (flow.clone(), layers.len()))
            .collect();
        for (file, text) in directory.map(read).transpose()?.unwrap_or_default() {
            let source = Source::parse(&file, &text);
            let below = source.as_ref().ok().and_then(|source| {
                let flow = source.declared.flow.get_ref();
                embedded.get(flow).copied()
            });
            add(source, below.unwrap_or(0), &mut sources, &mut mistakes);
        }
        let steps = Arc::new(steps);
        let resolver = Resolver {
            steps: &steps,
            hooks: &hooks,
            messages: catalog.pool(),
            sources: &sources,
        };
        let mut flows = BTreeMap::new();
        // What is read wrong makes others wrong, which says nothing about them.
        if mistakes.is_empty() {
            for name in sources.keys() {
                match resolver.flow(name) {
                    Ok(flow) => drop(flows.insert(name.clone(), flow)),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
        }
        mistakes.dedup();
        if mistakes.is_empty() {
            Ok(Flows {
                flows,
                run_by: BTreeMap::new(),
            })
        } else {
            Err(WrongFlows::Mistakes(mistakes))
        }
    }
}

/// Adds a declaration over `below` others of its name.
fn add(
    source: Result<Source, Vec<Mistake>>,
    below: usize,
    sources: &mut BTreeMap<String, Vec<Source>>,
    mistakes: &mut Vec<Mistake>,
) {
    let source = match source {
        Ok(source) => source,
        Err(more) => return mistakes.extend(more),
    };
    let flow = &source.declared.flow;
    let layers = sources.entry(flow.get_ref().clone()).or_default();
    if layers.len() > below {
        let other = layers.last().map_or("", |source| source.file.as_str());
        let problem = format!("is declared in {other} too");
        mistakes.push(source.mistake(flow.span().start, None, problem));
    } else {
        layers.push(source);
    }
}

/// The declarations in a directory, in the order of their names.
fn read(directory: &Path) -> Result<Vec<(String, String)>, WrongFlows> {
    let failed = |path: &Path, cause| WrongFlows::Read {
        path: path.to_owned(),
        cause,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|cause| failed(directory, cause))? {
        let path = entry.map_err(|cause| failed(directory, cause))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|cause| failed(&path, cause))?;
        files.push((path.display().to_string(), text));
    }
    Ok(files)
}

/// The flows of a process, and the rpcs that run them.
#[derive(Debug)]
pub struct Flows {
    flows: BTreeMap<String, Flow>,
    run_by: BTreeMap<String, &'static Method>,
}

impl Flows {
    /// The flow of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Flow, FlowError> {
        let flow = self.flows.get(name).cloned();
        flow.ok_or_else(|| FlowError::NoFlow {
            flow: name.to_owned(),
        })
    }

    /// The flow of that name, for a handler that begins it with its request, and makes its result
    /// of the messages `ends` (full names).
    ///
    /// # Errors
    /// If there is none, or it does not fit the handler.
    pub fn of<H: Handler>(&mut self, name: &str, ends: &[&str]) -> Result<Flow, FlowError>
    where
        H::Request: Name,
    {
        let (flow, given) = (self.get(name)?, H::Request::full_name());
        let method = H::METHOD.path.to_owned();
        if let Some(other) = flow.inputs().iter().find(|input| **input != given) {
            return Err(FlowError::Inputs {
                flow: name.to_owned(),
                message: other.clone(),
                method,
                given,
            });
        }
        let provided = |message: &str| {
            let mut steps = flow.steps().filter(|at| !at.is_conditional);
            message == given || steps.any(|at| at.step.provides().contains(&message))
        };
        if let Some(missing) = ends.iter().find(|message| !provided(message)) {
            return Err(FlowError::Ends {
                flow: name.to_owned(),
                message: (*missing).to_owned(),
                method,
            });
        }
        self.run_by.insert(name.to_owned(), H::METHOD);
        Ok(flow)
    }

    /// All flows, by their names.
    pub fn all(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// The rpc that runs a flow; none for one that others extend or have in them.
    #[must_use]
    pub fn run_by(&self, flow: &str) -> Option<&'static Method> {
        self.run_by.get(flow).copied()
    }
}
