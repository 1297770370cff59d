//! The two hosts' networks: network namespaces with one cable between them, `eth0` at each end.
//!
//! Whose a namespace is stands in it: the alias of its loopback interface is the data directory.

use std::path::Path;

use serde::Deserialize;

use crate::{
    command::{hear, try_ask},
    error::XtaskError,
};

use super::{cloud::Cloud, process::in_namespace, programs::system, steps::Done};

/// A network interface, as `ip -json link show` tells of it.
#[derive(Debug, Deserialize)]
struct Link {
    #[serde(rename = "ifname")]
    name: String,
    #[serde(rename = "ifalias")]
    alias: Option<String>,
}

/// What is there under the name of a namespace.
enum There {
    Nothing,
    /// A name that has survived its namespace: of a container that was started again.
    Shell,
    Ours(Vec<Link>),
    /// Somebody's.
    Of(String),
}

/// Makes the namespaces and the cable.
pub(crate) fn ensure(cloud: &Cloud) -> Result<Done, XtaskError> {
    let mut made = false;
    for host in cloud.hosts() {
        let name = &host.namespace;
        match look(name, cloud.directory()) {
            There::Ours(_) => continue,
            There::Of(whose) => {
                return Err(XtaskError::Refused(format!(
                    "the network namespace {name} is there and belongs to {whose}; take that \
                     down, or choose another --name and --data-directory"
                )));
            }
            There::Shell => delete(name)?,
            There::Nothing => {}
        }
        ip(&["netns", "add", name])?;
        let whose = cloud.directory().display().to_string();
        ip(&["-netns", name, "link", "set", "lo", "alias", &whose])?;
        ip(&["-netns", name, "link", "set", "lo", "up"])?;
        made = true;
    }
    let [one, two] = cloud.hosts();
    let plugged = match look(&one.namespace, cloud.directory()) {
        There::Ours(links) => links.iter().any(|link| link.name == "eth0"),
        _ => false,
    };
    if !plugged {
        let cable = [
            "-netns",
            &one.namespace,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &two.namespace,
        ];
        ip(&cable)?;
        made = true;
    }
    for host in [one, two] {
        ip(&["-netns", &host.namespace, "link", "set", "eth0", "up"])?;
    }
    Ok(Done::of(made))
}

/// The namespaces of the cloud that are there, by name.
pub(crate) fn present(cloud: &Cloud) -> Vec<&str> {
    let names = cloud.hosts().iter().map(|host| host.namespace.as_str());
    names
        .filter(|name| !matches!(look(name, cloud.directory()), There::Nothing | There::Of(_)))
        .collect()
}

/// Removes a namespace, with its interfaces. What runs in it would keep it.
pub(crate) fn delete(name: &str) -> Result<(), XtaskError> {
    ip(&["netns", "delete", name])
}

fn look(name: &str, directory: &Path) -> There {
    if !Path::new("/run/netns").join(name).exists() {
        return There::Nothing;
    }
    let mut show = system("ip", &["-netns", name, "-json", "link", "show"]);
    let Some(answer) = try_ask(&mut show) else {
        return There::Shell;
    };
    let links: Vec<Link> = serde_json::from_str(&answer).unwrap_or_default();
    let alias = links.iter().find_map(|link| link.alias.clone());
    match alias {
        Some(alias) if Path::new(&alias) == directory => There::Ours(links),
        Some(alias) => There::Of(alias),
        // Ours, of an `up` that ended right after it was made.
        None if links.len() <= 1 && in_namespace(name).is_empty() => There::Shell,
        None => There::Of("somebody else".to_owned()),
    }
}

fn ip(arguments: &[&str]) -> Result<(), XtaskError> {
    hear(&mut system("ip", arguments)).map(drop)
}
