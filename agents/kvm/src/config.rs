//! The agent's configuration file.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use cairn_boot::{Check, Problems, Spanned, telemetry::TelemetryConfig};
use cairn_types::HostUuid;

/// The longest folder: below it are the sockets of virtual machines, and the path of a socket has
/// at most 107 bytes.
const LONGEST_DIRECTORY: usize = 107 - "/vms/01890a5d-ac96-774b-bcce-b302099a8057/qmp".len();

/// The configuration of a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvmConfig {
    /// The state folder.
    pub directory: Spanned<PathBuf>,
    /// Where nodes reach the agent.
    pub listen: SocketAddr,
    /// The host, enrolled in the state folder.
    pub host: HostUuid,
    /// What runs guests.
    #[serde(default)]
    pub accelerator: AcceleratorChoice,
    /// The network namespace, as in `/run/netns`, that has the bridges; without one, the agent's
    /// own.
    pub network_namespace: Option<Spanned<String>>,
    /// The program.
    #[serde(default = "default_qemu")]
    pub qemu: String,
    /// QEMU's type of machine.
    #[serde(default = "default_machine")]
    pub machine: Spanned<String>,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// What is to run guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM if it proves that it runs guests here, emulation otherwise.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// Emulation.
    Tcg,
}

fn default_qemu() -> String {
    "qemu-system-x86_64".to_owned()
}

fn default_machine() -> Spanned<String> {
    Spanned::new(0..0, "q35".to_owned())
}

impl Check for KvmConfig {
    fn check(&self, problems: &mut Problems<'_>) {
        let directory = self.directory.get_ref();
        if !directory.is_absolute() {
            let right = "use something like `/var/lib/cairn/kvm`";
            problems.at(&self.directory, "is no absolute path", right);
        }
        let length = directory.as_os_str().len();
        if length > LONGEST_DIRECTORY {
            problems.at(
                &self.directory,
                format!("is {length} bytes long"),
                format!("use a path of at most {LONGEST_DIRECTORY} bytes"),
            );
        }
        if let Some(name) = &self.network_namespace {
            let text = name.get_ref();
            if text.is_empty() || text.starts_with('.') || text.contains('/') {
                problems.at(
                    name,
                    "is no name of a network namespace",
                    "use one of `ip netns`",
                );
            }
        }
        let machine = self.machine.get_ref();
        if machine.is_empty() || machine.contains([',', ' ']) {
            problems.at(
                &self.machine,
                "is no type of machine",
                "use something like `q35`",
            );
        }
        self.telemetry.check(problems);
    }
}

#[cfg(test)]
mod tests {
    use cairn_boot::config::parse;

    use super::*;

    #[test]
    fn the_sample_has_every_setting_and_its_default() {
        let sample = include_str!("../../../deploy/sample/kvm.toml");
        let config: KvmConfig = parse(sample, "kvm.toml").unwrap();
        assert_eq!(config.accelerator, AcceleratorChoice::default());
        assert_eq!(config.qemu, default_qemu());
        assert_eq!(config.machine.get_ref(), default_machine().get_ref());
        assert_eq!(config.network_namespace, None);
        // What has no default, or is nothing by default, is there all the same.
        let all = format!("[telemetry]\n{}", sample.replace("[telemetry]\n", ""));
        for key in ["network_namespace", "otlp_endpoint", "service_name"] {
            assert!(all.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn a_configuration_is_taken_or_explained() {
        let right = "directory = '/var/lib/cairn/kvm'\nlisten = '0.0.0.0:7443'\n\
                     host = '01890a5d-ac96-774b-bcce-b302099a8057'\n";
        let config: KvmConfig = parse(right, "kvm.toml").unwrap();
        assert_eq!(config.accelerator, AcceleratorChoice::Auto);
        assert_eq!(config.machine.get_ref(), "q35");

        let wrong = format!(
            "{}accelerator = 'xen'\nnetwork_namespace = 'a/b'\nmachine = 'q35,accel=kvm'\n",
            right.replace("/var/lib/cairn", &"x".repeat(70))
        );
        let error = parse::<KvmConfig>(&wrong, "kvm.toml").unwrap_err();
        let text = error.to_string();
        for problem in [
            "kvm.toml:1:13: `directory`: is no absolute path; use something like",
            "`directory`: is 74 bytes long; use a path of at most 62 bytes",
            "kvm.toml:4:15: `accelerator`",
            "`network_namespace`: is no name of a network namespace; use one of `ip netns`",
            "`machine`: is no type of machine; use something like `q35`",
        ] {
            assert!(text.contains(problem), "{text}");
        }
    }
}
