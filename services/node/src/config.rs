//! The configuration file of a node: every setting, its default and its limits.

mod database;
mod deletion;
mod limits;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cairn_boot::{Check, Problems, Spanned, telemetry::TelemetryConfig};
use serde::Deserialize;

pub use database::{DatabaseConfig, DatabaseUrl};
pub use deletion::{DeletionConfig, PolicyName};
pub use limits::LimitsConfig;

/// A node's configuration. Only the data directory must be given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the CA, the administrator's credential and, if it is SQLite, the database are. An
    /// absolute path; made if it is not there, readable by its owner only.
    pub data_directory: Spanned<PathBuf>,
    /// The services that this node runs; all of them if absent.
    #[serde(default)]
    pub services: Option<Spanned<Vec<ServiceName>>>,
    /// The database.
    #[serde(default)]
    pub database: DatabaseConfig,
    /// The listener for people and programs.
    #[serde(default)]
    pub public: PublicConfig,
    /// The listener for agents.
    #[serde(default)]
    pub callback: CallbackConfig,
    /// How hosts are watched.
    #[serde(default)]
    pub hosts: HostsConfig,
    /// How much may be under way at once.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Flows that differ from those of the services.
    #[serde(default)]
    pub flows: FlowsConfig,
    /// What a delete does to what can be kept.
    #[serde(default)]
    pub deletion: DeletionConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// How long a stop may take, in seconds; 1 to 600.
    #[serde(default = "shutdown_limit_secs")]
    pub shutdown_limit_secs: Spanned<u64>,
}

/// A service that a node can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceName {
    /// Zones, clusters, hosts, virtual machines.
    Compute,
    /// L2 and L3 networks, addresses, nics.
    Network,
    /// Primary storages, images, volumes.
    Storage,
    /// Plans of what is deleted with a resource.
    Cascade,
    /// Hold what the database says against what hosts have.
    Doctor,
    /// Show, watch and cancel operations.
    Operation,
    /// The generic query.
    Query,
}

/// The listener for people and programs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicConfig {
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further names and addresses that clients call it by, for its certificate. `localhost`,
    /// the loopback addresses and the listening address are in it already.
    pub names: Vec<String>,
}

/// The listener for agents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallbackConfig {
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where agents reach it, `https://192.0.2.1:7072`; the listening address if empty.
    pub addresses: Spanned<Vec<String>>,
}

/// How hosts are watched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostsConfig {
    /// The pause between two rounds of pings, in milliseconds; at least 10.
    pub ping_interval_ms: Spanned<u64>,
    /// Pings that may fail in a row before a host counts as disconnected; at least 1.
    pub ping_failures: Spanned<u32>,
}

/// Flows that differ from those of the services.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowsConfig {
    /// A directory of files that declare flows, each over the service's own of that name; none if
    /// absent.
    pub directory: Option<PathBuf>,
}

impl Default for PublicConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            names: Vec::new(),
        }
    }
}

impl Default for CallbackConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7072)),
            addresses: Spanned::new(0..0, Vec::new()),
        }
    }
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self {
            ping_interval_ms: Spanned::new(0..0, 5_000),
            ping_failures: Spanned::new(0..0, 3),
        }
    }
}

fn shutdown_limit_secs() -> Spanned<u64> {
    Spanned::new(0..0, 30)
}

impl Config {
    /// The default configuration over this directory.
    pub fn new(data_directory: impl Into<PathBuf>) -> Self {
        Self {
            data_directory: Spanned::new(0..0, data_directory.into()),
            services: None,
            database: DatabaseConfig::default(),
            public: PublicConfig::default(),
            callback: CallbackConfig::default(),
            hosts: HostsConfig::default(),
            limits: LimitsConfig::default(),
            flows: FlowsConfig::default(),
            deletion: DeletionConfig::default(),
            telemetry: TelemetryConfig::default(),
            shutdown_limit_secs: shutdown_limit_secs(),
        }
    }

    /// How long a stop may take.
    #[must_use]
    pub fn shutdown_limit(&self) -> Duration {
        Duration::from_secs(*self.shutdown_limit_secs.get_ref())
    }

    pub(crate) fn runs(&self, service: ServiceName) -> bool {
        self.services
            .as_ref()
            .is_none_or(|services| services.get_ref().contains(&service))
    }
}

impl Check for Config {
    fn check(&self, problems: &mut Problems<'_>) {
        if !self.data_directory.get_ref().is_absolute() {
            problems.at(
                &self.data_directory,
                "is a relative path",
                "use an absolute one",
            );
        }
        if let Some(services) = self.services.as_ref().filter(|s| s.get_ref().is_empty()) {
            problems.at(
                services,
                "names no service",
                "name some, or leave it out for all",
            );
        }
        self.database.check(problems);
        let callback = &self.callback;
        for address in callback.addresses.get_ref() {
            let host = address
                .strip_prefix("https://")
                .filter(|host| !host.is_empty());
            if host.is_none_or(|host| host.contains('/')) {
                let wrong = format!("has `{address}`");
                problems.at(
                    &callback.addresses,
                    wrong,
                    "use base URLs as in https://192.0.2.1:7072",
                );
            }
        }
        if callback.listen.ip().is_unspecified() && callback.addresses.get_ref().is_empty() {
            problems.of(
                "callback.addresses",
                "is empty, though the listener has no address of its own",
                "say where agents reach it, as in [\"https://192.0.2.1:7072\"]",
            );
        }
        if *self.hosts.ping_interval_ms.get_ref() < 10 {
            problems.at(
                &self.hosts.ping_interval_ms,
                "is too short",
                "use 10 or more",
            );
        }
        if *self.hosts.ping_failures.get_ref() == 0 {
            problems.at(&self.hosts.ping_failures, "is 0", "use 1 or more");
        }
        if !(1..=600).contains(self.shutdown_limit_secs.get_ref()) {
            problems.at(&self.shutdown_limit_secs, "is out of range", "use 1 to 600");
        }
        self.limits.check(problems);
        self.deletion.check(problems);
        self.telemetry.check(problems);
    }
}

#[cfg(test)]
mod tests {
    use cairn_boot::config::parse;

    use super::*;

    #[test]
    fn the_data_directory_is_enough() {
        let config: Config = parse("data_directory = '/var/lib/cairn'", "node.toml").unwrap();
        assert_eq!(config.public.listen.to_string(), "127.0.0.1:7070");
        assert!(config.runs(ServiceName::Compute));
    }

    #[test]
    fn the_sample_is_a_configuration() {
        let sample = include_str!("../../../deploy/sample/node.toml");
        parse::<Config>(sample, "node.toml").unwrap();
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_the_remedy() {
        let text = "data_directory = 'data'\nservices = ['compute', 'computer']\n\
                    shutdown_limit_secs = 0\n\n[callback]\nlisten = '0.0.0.0:7072'\n\n\
                    [hosts]\nping_failures = 0\nping_intervall_ms = 5\n\
                    [limits]\ncalls = 0\ncalls_per_account = 0\ncommands_per_host = 0\n\
                    [deletion]\nvm_instance_kept_secs = 0\nexpunge_interval_secs = 0\n";
        let error = parse::<Config>(text, "node.toml").unwrap_err().to_string();
        for part in [
            "node.toml:1:18: `data_directory`: is a relative path; use an absolute one",
            "node.toml:2:",
            "node.toml:3:23: `shutdown_limit_secs`: is out of range; use 1 to 600",
            "`callback.addresses`: is empty",
            "node.toml:9:17: `hosts.ping_failures`: is 0; use 1 or more",
            "node.toml:10:",
            "node.toml:12:9: `limits.calls`: is 0; use 1 or more",
            "node.toml:13:21: `limits.calls_per_account`: is 0; use 1 or more",
            "node.toml:14:21: `limits.commands_per_host`: is 0; use 1 or more",
            "`deletion.vm_instance_kept_secs`: is 0; use 1 or more, or the policy direct",
            "`deletion.expunge_interval_secs`: is out of range; use 1 to 86400",
            "ping_interval_ms",
        ] {
            assert!(error.contains(part), "{part} is not in:\n{error}");
        }
    }
}
