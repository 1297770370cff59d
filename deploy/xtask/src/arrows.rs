//! Which crate may depend on which.
//!
//! Folders are layers. A service that imports a service cannot be moved to another machine, and a
//! core crate that knows a service is no library: so the compiler's own list of dependencies is
//! held against the rules below, and what they do not allow fails.

use crate::{error::XtaskError, metadata};

/// The crates of core/, in layers: one may use those of the layers above its own in this list.
const CORE: &[&[&str]] = &[
    &["types"],
    &["agent-protocol", "boot", "proto", "queue", "ring", "tls"],
    &["inspect", "sftp", "store"],
    &["query"],
    &["agent", "operation"],
    &["cascade", "flow", "resource"],
    &["mesh"],
    &["testkit"],
];

/// What an agent may use of core/: an agent runs on a host and knows no database and no service.
const FOR_AGENTS: &[&str] = &["agent-protocol", "boot", "sftp", "tls", "types"];

/// What a client may use of core/: the contract, as anybody else's program would.
const FOR_CLIENTS: &[&str] = &["proto", "types"];

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Core { name: &'a str, layer: usize },
    Service,
    Node,
    AgentRuntime,
    Agent,
    Client,
    Xtask,
    Tests,
}

/// Fails when a crate depends on what it may not, is not named after its folder, or stands in a
/// folder that has no rule.
pub(crate) fn check() -> Result<(), XtaskError> {
    let mut findings = Vec::new();
    for package in metadata::packages()? {
        let folder = package.folder();
        match crate_name(&folder) {
            Ok(name) if name == package.name => {}
            Ok(name) => {
                findings.push(format!(
                    "{folder}: the crate is `{}`, not `{name}`",
                    package.name
                ));
            }
            Err(unknown) => {
                findings.push(unknown);
                continue;
            }
        }
        for dependency in &package.dependencies {
            if let Some(to) = dependency.folder() {
                findings.extend(arrow(&folder, &to, dependency.is_dev()).err());
            }
        }
    }
    XtaskError::of_findings(findings)
}

/// Whether the crate in folder `from` may depend on the one in folder `to`.
fn arrow(from: &str, to: &str, dev: bool) -> Result<(), String> {
    let (user, used) = (place(from)?, place(to)?);
    match refusal(user, used, dev) {
        None => Ok(()),
        Some(reason) => Err(format!("{from} depends on {to}: {reason}")),
    }
}

/// Why the arrow is not allowed; none when it is.
fn refusal(from: Place<'_>, to: Place<'_>, dev: bool) -> Option<&'static str> {
    use Place::{Agent, AgentRuntime, Client, Core, Node, Service, Tests, Xtask};
    let (allowed, reason) = match (from, to) {
        (Tests, _) => return None,
        (Xtask, _) => (false, "it builds the project, and so uses none of it"),
        (
            _,
            Core {
                name: "testkit", ..
            },
        ) => (dev, "testkit is for tests (dev-dependencies)"),
        // A test looks at its crate from the other side too: an agent's from the node's.
        (_, Core { .. }) if dev => return None,
        (Core { layer: from, .. }, Core { layer: to, .. }) => {
            (to < from, "a core crate uses only those of lower layers")
        }
        (Core { .. }, _) => (false, "core knows nothing of what stands on it"),
        (Service, Core { .. }) => (true, ""),
        (Service, _) => (false, "a service uses core and never another service"),
        (Node, Core { .. } | Service) => (true, ""),
        (Node, _) => (false, "the node uses core and services"),
        (Agent | AgentRuntime, Core { name, .. }) => (
            FOR_AGENTS.contains(&name),
            "of core, agents use only types, boot, tls, sftp, agent-protocol",
        ),
        (Agent, AgentRuntime) => (true, ""),
        (Agent | AgentRuntime, _) => (
            false,
            "an agent uses the runtime of agents and some of core",
        ),
        (Client, Core { name, .. }) => (
            FOR_CLIENTS.contains(&name),
            "of core, clients use only types and proto",
        ),
        (Client, _) => (false, "a client uses only core/types and core/proto"),
    };
    (!allowed).then_some(reason)
}

fn place(folder: &str) -> Result<Place<'_>, String> {
    let unknown =
        || format!("{folder}: there is no rule for this folder (deploy/xtask, arrows.rs)");
    let (area, name) = folder.split_once('/').ok_or_else(unknown)?;
    match (area, name) {
        ("core", _) => match CORE.iter().position(|layer| layer.contains(&name)) {
            Some(layer) => Ok(Place::Core { name, layer }),
            None => Err(unknown()),
        },
        ("services", "node") => Ok(Place::Node),
        ("services", _) => Ok(Place::Service),
        ("agents", "runtime") => Ok(Place::AgentRuntime),
        ("agents", _) => Ok(Place::Agent),
        ("clients", _) => Ok(Place::Client),
        ("deploy", "xtask") => Ok(Place::Xtask),
        ("tests", _) => Ok(Place::Tests),
        _ => Err(unknown()),
    }
}

/// The name that the crate in the folder has.
fn crate_name(folder: &str) -> Result<String, String> {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    Ok(match place(folder)? {
        Place::Service => format!("cairn-{name}-service"),
        Place::AgentRuntime => "cairn-agent-runtime".to_owned(),
        _ => format!("cairn-{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_that_are_allowed() {
        for (from, to, dev) in [
            ("core/proto", "core/types", false),
            ("core/mesh", "core/ring", false),
            ("core/flow", "core/operation", false),
            ("core/store", "core/testkit", true),
            ("core/testkit", "core/store", false),
            ("services/compute", "core/mesh", false),
            ("services/compute", "core/testkit", true),
            ("services/node", "services/compute", false),
            ("services/node", "core/boot", false),
            ("agents/runtime", "core/tls", false),
            ("agents/simulator", "agents/runtime", false),
            ("agents/simulator", "core/agent-protocol", false),
            ("agents/kvm", "core/sftp", false),
            ("clients/cli", "core/proto", false),
            ("tests/e2e", "services/node", false),
            ("tests/e2e", "agents/simulator", false),
            ("tests/e2e", "core/testkit", false),
        ] {
            assert_eq!(arrow(from, to, dev), Ok(()));
        }
    }

    #[test]
    fn arrows_that_are_not() {
        for (from, to, dev) in [
            ("core/types", "core/proto", false),
            ("core/tls", "core/proto", false),
            ("core/store", "core/query", false),
            ("core/types", "core/types", false),
            ("core/store", "core/testkit", false),
            ("core/mesh", "services/compute", false),
            ("core/mesh", "services/compute", true),
            ("core/agent", "agents/runtime", true),
            ("services/compute", "services/identity", false),
            ("services/compute", "services/identity", true),
            ("services/compute", "services/node", false),
            ("services/compute", "core/testkit", false),
            ("services/node", "core/testkit", false),
            ("services/node", "agents/simulator", true),
            ("agents/runtime", "agents/simulator", false),
            ("agents/simulator", "core/store", false),
            ("agents/simulator", "agents/kvm", false),
            ("clients/cli", "core/mesh", false),
            ("clients/cli", "services/node", false),
            ("deploy/xtask", "core/types", false),
            ("core/nonesuch", "core/types", false),
            ("elsewhere", "core/types", false),
            ("plugins/x", "core/types", false),
        ] {
            assert!(arrow(from, to, dev).is_err(), "{from} → {to}, dev: {dev}");
        }
    }

    #[test]
    fn a_refusal_names_both_ends_and_the_reason() {
        let refused = arrow("services/compute", "services/identity", false).unwrap_err();
        let expected = "services/compute depends on services/identity: \
                        a service uses core and never another service";
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_crate_is_named_after_its_folder() {
        for (folder, name) in [
            ("core/agent-protocol", "cairn-agent-protocol"),
            ("services/compute", "cairn-compute-service"),
            ("services/node", "cairn-node"),
            ("agents/runtime", "cairn-agent-runtime"),
            ("agents/simulator", "cairn-simulator"),
            ("clients/cli", "cairn-cli"),
            ("deploy/xtask", "cairn-xtask"),
            ("tests/e2e", "cairn-e2e"),
        ] {
            assert_eq!(crate_name(folder).as_deref(), Ok(name));
        }
        assert!(crate_name("deploy/other").is_err());
    }
}
