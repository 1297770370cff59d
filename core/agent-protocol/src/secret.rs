//! A text that is sent and used, and never shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret on the wire. What prints it prints that there is one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, to be used and not to be kept.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_the_wire_and_is_not_shown() {
        let secret = Secret::new("open sesame".to_owned());
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(text, "\"open sesame\"");
        assert_eq!(serde_json::from_str::<Secret>(&text).unwrap(), secret);
        assert!(!format!("{secret:?}").contains("sesame"));
    }
}
