//! What goes wrong on purpose.

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use cairn_agent_protocol::CommandErrorCode;
use cairn_types::{HostUuid, Uuid};

/// Something that goes wrong with the commands that match: all whose given fields agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The command's name.
    #[serde(default)]
    pub command: Option<String>,
    /// The host.
    #[serde(default)]
    pub host: Option<HostUuid>,
    /// The resource that the command is for.
    #[serde(default)]
    pub resource: Option<Uuid>,
    /// How often; without it, until it is released.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub effect: FaultEffect,
}

/// What a fault does to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultEffect {
    /// It fails and changes nothing.
    Fail {
        /// The error's code.
        code: CommandErrorCode,
        /// The error's words.
        message: String,
    },
    /// It takes place and says that it failed.
    FailAfter {
        /// The error's words.
        message: String,
    },
    /// It begins later by so many milliseconds.
    DelayMs(u64),
    /// It does not begin until the fault is released.
    Hold,
    /// An attempt to report its outcome is lost on the way.
    LoseReport,
    /// The agent panics.
    Panic,
}

impl Fault {
    /// A fault of every command; narrow it by its other fields.
    #[must_use]
    pub fn new(effect: FaultEffect) -> Self {
        Self {
            command: None,
            host: None,
            resource: None,
            times: None,
            effect,
        }
    }

    fn matches(&self, command: &str, host: HostUuid, resource: Uuid) -> bool {
        self.command.as_deref().is_none_or(|name| name == command)
            && self.host.is_none_or(|uuid| uuid == host)
            && self.resource.is_none_or(|uuid| uuid == resource)
    }
}

/// A fault that is due.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) effect: FaultEffect,
    pub(crate) released: CancellationToken,
}

#[derive(Debug)]
struct Injected {
    id: u64,
    fault: Fault,
    released: CancellationToken,
}

/// All faults that were injected and not released.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    injected: Vec<Injected>,
    last_id: u64,
}

impl Faults {
    pub(crate) fn inject(&mut self, fault: Fault) -> u64 {
        self.last_id += 1;
        let released = CancellationToken::new();
        self.injected.push(Injected {
            id: self.last_id,
            fault,
            released,
        });
        self.last_id
    }

    /// Ends a fault, and lets go what it held; `false` if there is none with that id.
    pub(crate) fn release(&mut self, id: u64) -> bool {
        let Some(at) = self.injected.iter().position(|injected| injected.id == id) else {
            return false;
        };
        self.injected.remove(at).released.cancel();
        true
    }

    /// Ends all faults, and lets go what they held.
    pub(crate) fn release_all(&mut self) {
        for injected in self.injected.drain(..) {
            injected.released.cancel();
        }
    }

    /// The faults due to a command that begins, each counted.
    pub(crate) fn due(&mut self, command: &str, host: HostUuid, resource: Uuid) -> Vec<Due> {
        self.take(command, host, resource, |effect| {
            *effect != FaultEffect::LoseReport
        })
    }

    /// Whether an attempt to report a command's outcome is lost; counted.
    pub(crate) fn loses(&mut self, command: &str, host: HostUuid, resource: Uuid) -> bool {
        let lost = |effect: &FaultEffect| *effect == FaultEffect::LoseReport;
        !self.take(command, host, resource, lost).is_empty()
    }

    fn take(
        &mut self,
        command: &str,
        host: HostUuid,
        resource: Uuid,
        wanted: impl Fn(&FaultEffect) -> bool,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for Injected {
            fault, released, ..
        } in &mut self.injected
        {
            if !wanted(&fault.effect) || !fault.matches(command, host, resource) {
                continue;
            }
            match &mut fault.times {
                Some(0) => continue,
                Some(times) => *times -= 1,
                None => {}
            }
            due.push(Due {
                effect: fault.effect.clone(),
                released: released.clone(),
            });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_what_it_names_as_often_as_it_says() {
        let (host, resource) = (HostUuid::generate(), Uuid::new_v4());
        let mut faults = Faults::default();
        faults.inject(Fault {
            command: Some("start-vm".to_owned()),
            host: Some(host),
            times: Some(1),
            ..Fault::new(FaultEffect::DelayMs(1))
        });
        assert!(faults.due("stop-vm", host, resource).is_empty());
        assert!(
            faults
                .due("start-vm", HostUuid::generate(), resource)
                .is_empty()
        );
        assert!(!faults.loses("start-vm", host, resource));
        assert_eq!(faults.due("start-vm", host, resource).len(), 1);
        assert!(faults.due("start-vm", host, resource).is_empty());
    }

    #[test]
    fn a_release_lets_go_what_is_held() {
        let mut faults = Faults::default();
        let id = faults.inject(Fault::new(FaultEffect::Hold));
        let held = faults.due("connect", HostUuid::generate(), Uuid::nil());
        assert!(!held[0].released.is_cancelled());
        assert!(faults.release(id));
        assert!(held[0].released.is_cancelled());
        assert!(!faults.release(id));
    }
}
