//! The order of what happens on a host, told without a clock.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use cairn_types::Uuid;

/// How far a host's agent is: it counts, for each host and from its process's start, the runs of tasks
/// that it has count and those that it has forgotten, because their outcome is committed. As text, in
/// headers and in JSON, `<incarnation>.<count>`.
///
/// A command says up to where its sender knows the host ([`header::SEEN`]), and begins a run only if
/// that is all that happened so to its resource. So a command that was overtaken on its way by whatever
/// came after it, or that an earlier process of the agent should have had, does nothing when it arrives:
/// the agent answers 412 and the present moment, and only who still waits for the command's outcome
/// sends it again.
///
/// [`header::SEEN`]: crate::header::SEEN
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Moment {
    /// That of the agent's process.
    pub incarnation: Uuid,
    /// How many beginnings and forgettings there were. A run is named by the moment of its beginning.
    pub count: u64,
}

impl Moment {
    /// The start of an agent's process.
    #[must_use]
    pub const fn start(incarnation: Uuid) -> Self {
        Self {
            incarnation,
            count: 0,
        }
    }

    /// Whether who knows this moment knows of that one.
    #[must_use]
    pub fn knows(self, other: Self) -> bool {
        self.incarnation == other.incarnation && self.count >= other.count
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.count)
    }
}

/// A text that is no [`Moment`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a moment of an agent, `<uuid>.<count>`")]
pub struct InvalidMoment(String);

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let moment = text.split_once('.').and_then(|(incarnation, count)| {
            Some(Self {
                incarnation: incarnation.parse().ok()?,
                count: count.parse().ok()?,
            })
        });
        moment.ok_or_else(|| InvalidMoment(text.to_owned()))
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl TryFrom<String> for Moment {
    type Error = InvalidMoment;

    fn try_from(text: String) -> Result<Self, InvalidMoment> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_written_and_nothing_else_is_one() {
        let moment = Moment {
            incarnation: Uuid::from_u128(7),
            count: u64::MAX,
        };
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(
            text,
            r#""00000000-0000-0000-0000-000000000007.18446744073709551615""#
        );
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
        for bad in ["", "7.7", "00000000-0000-0000-0000-000000000007", "x.1"] {
            assert_eq!(bad.parse::<Moment>(), Err(InvalidMoment(bad.to_owned())));
        }
        assert!(serde_json::from_str::<Moment>("\"1\"").is_err());
    }

    #[test]
    fn another_process_of_the_agent_is_not_known() {
        let at = |incarnation, count| Moment {
            incarnation: Uuid::from_u128(incarnation),
            count,
        };
        assert!(at(1, 2).knows(at(1, 2)) && at(1, 3).knows(at(1, 2)));
        assert!(!at(1, 1).knows(at(1, 2)));
        assert!(!at(2, 3).knows(at(1, 2)) && !at(2, 3).knows(Moment::start(Uuid::from_u128(1))));
    }
}
