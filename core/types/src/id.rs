//! Ids as newtypes, so that a host's uuid cannot be passed where a zone's is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
pub use uuid::Uuid;

/// A text that should have been a uuid and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a uuid; a uuid looks like 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct InvalidUuid(pub String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one, greater than those made before it (uuid version 7).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                match Uuid::try_parse(text) {
                    // Only the canonical form: a uuid is compared as text in the database.
                    Ok(uuid) if text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase()) => {
                        Ok(Self(uuid))
                    }
                    _ => Err(InvalidUuid(text.to_owned())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

ids! {
    /// An account.
    AccountUuid;
    /// A zone.
    ZoneUuid;
    /// A cluster.
    ClusterUuid;
    /// A host.
    HostUuid;
    /// An operation: a mutating call that was accepted.
    OperationUuid;
    /// A command to an agent; a repeat of the command carries the same one.
    TaskUuid;
}

impl AccountUuid {
    /// The administrator, who exists in every cloud.
    pub const ADMIN: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
}

impl TaskUuid {
    /// The task of one direction (`run`, `rollback`) of one step of an operation: the same
    /// whenever it is asked for, so that a repeat after a crash is known as a repeat.
    #[must_use]
    pub fn of_step(operation: OperationUuid, step: &str, direction: &str) -> Self {
        Self(Uuid::new_v5(
            &operation.0,
            format!("{direction}/{step}").as_bytes(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_uuid() {
        let canonical = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(canonical.parse::<HostUuid>().is_ok());
        for bad in [
            "",
            "x",
            "01890A5D-AC96-774B-BCCE-B302099A8057",
            "01890a5dac96774bbcceb302099a8057",
        ] {
            assert_eq!(bad.parse::<HostUuid>(), Err(InvalidUuid(bad.to_owned())));
        }
    }

    #[test]
    fn the_task_of_a_step_is_stable_and_its_own() {
        let operation: OperationUuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let run = TaskUuid::of_step(operation, "create-on-hypervisor", "run");
        // Golden: a node that was upgraded in between must find the task it started.
        assert_eq!(run.to_string(), "78d6fc13-b069-5dc0-b579-7f6efb142907");
        assert_ne!(
            run,
            TaskUuid::of_step(operation, "create-on-hypervisor", "rollback")
        );
        assert_ne!(
            run,
            TaskUuid::of_step(OperationUuid::generate(), "create-on-hypervisor", "run")
        );
    }
}
