//! The programs that do the work on a host: `ip`, `qemu-img`, QEMU. Each run has a time limit,
//! and ends with it, and with the future that waits for it.

use std::{fmt::Display, process::Stdio, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{process::Command, time::timeout};

use crate::KvmError;

/// How long a program may take that only changes a setting.
pub(crate) const SHORT: Duration = Duration::from_secs(10);

/// Runs programs, all in one network namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    /// As in `/run/netns`; without one, the agent's own.
    pub(crate) network_namespace: Option<String>,
}

impl Programs {
    /// Runs a program and gives what it wrote to its standard output.
    pub(crate) async fn run<A: AsRef<str>>(
        &self,
        program: &str,
        arguments: &[A],
        limit: Duration,
    ) -> Result<String, KvmError> {
        let mut command = match &self.network_namespace {
            // Only the network: `ip netns exec` would give another /sys, without cgroups, too.
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.args([&format!("--net=/run/netns/{name}"), "--", program]);
                command
            }
            None => Command::new(program),
        };
        command
            .args(arguments.iter().map(AsRef::as_ref))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(limit, command.output())
            .await
            .map_err(|_| KvmError::TimedOut {
                what: words(program, arguments),
                limit,
            })?
            .map_err(|cause| KvmError::Start {
                program: program.to_owned(),
                cause,
            })?;
        if !output.status.success() {
            return Err(KvmError::Failed {
                command: words(program, arguments),
                status: output.status.to_string(),
                words: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program that writes JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        program: &str,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<T, KvmError> {
        let output = self.run(program, arguments, limit).await?;
        serde_json::from_str(&output).map_err(|cause| KvmError::Output {
            command: words(program, arguments),
            cause,
        })
    }
}

fn words<A: AsRef<str>>(program: impl Display, arguments: &[A]) -> String {
    let mut words = program.to_string();
    for argument in arguments {
        words.push(' ');
        words.push_str(argument.as_ref());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_has_the_programs_words() {
        let programs = Programs::default();
        let said = programs.run("sh", &["-c", "echo here"], SHORT).await;
        assert_eq!(said.unwrap(), "here\n");
        let failed = programs.run("sh", &["-c", "echo no disk >&2; exit 3"], SHORT);
        assert_eq!(
            failed.await.unwrap_err().to_string(),
            "`sh -c echo no disk >&2; exit 3` failed (exit status: 3): no disk"
        );
        let late = programs.run("sleep", &["60"], Duration::from_millis(1));
        assert!(matches!(late.await, Err(KvmError::TimedOut { .. })));
        let absent = programs.run::<&str>("no-such-program", &[], SHORT).await;
        assert!(matches!(absent, Err(KvmError::Start { .. })));
    }
}
