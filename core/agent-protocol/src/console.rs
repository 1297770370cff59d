//! What a guest wrote to its serial console: asked for in parts.

use serde::{Deserialize, Serialize};

use cairn_types::Uuid;

/// Reads a part of a virtual machine's console log. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadConsole {
    /// The virtual machine.
    pub vm: Uuid,
    /// Where to begin; the last bytes if absent.
    pub offset: Option<u64>,
    /// At most this many bytes.
    pub limit_bytes: u32,
}

/// A part of a console log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsolePart {
    /// What the guest wrote.
    #[serde(with = "in_base64")]
    pub content: Vec<u8>,
    /// Where the content begins.
    pub offset: u64,
    /// How long the log is.
    pub total_bytes: u64,
}

impl ReadConsole {
    /// Where the part begins and how long it is, in a log of so many bytes.
    #[must_use]
    pub fn part_of(&self, total_bytes: u64) -> (u64, u64) {
        let most = u64::from(self.limit_bytes);
        let last = total_bytes.saturating_sub(most);
        let offset = self.offset.unwrap_or(last).min(total_bytes);
        (offset, most.min(total_bytes - offset))
    }
}

/// A guest may write any bytes, and JSON has none.
mod in_base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_within_the_log() {
        for (offset, limit_bytes, total, expected) in [
            (None, 10, 0, (0, 0)),
            (None, 10, 7, (0, 7)),
            (None, 10, 25, (15, 10)),
            (Some(0), 10, 25, (0, 10)),
            (Some(20), 10, 25, (20, 5)),
            (Some(25), 10, 25, (25, 0)),
            // The log was begun anew since.
            (Some(99), 10, 25, (25, 0)),
        ] {
            let command = ReadConsole {
                vm: Uuid::nil(),
                offset,
                limit_bytes,
            };
            assert_eq!(command.part_of(total), expected, "{command:?} of {total}");
        }
    }

    #[test]
    fn any_bytes_travel() {
        let part = ConsolePart {
            content: (0..=255).collect(),
            offset: 1,
            total_bytes: 257,
        };
        let json = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<ConsolePart>(&json).unwrap(), part);
        assert!(
            serde_json::from_str::<ConsolePart>(
                r#"{"content": "*", "offset": 0, "total_bytes": 1}"#
            )
            .is_err()
        );
    }
}
