//! How much may be under way at once.

use cairn_boot::{Check, Problems, Spanned};
use serde::Deserialize;

/// Caps: what is past one is answered with `OVERLOADED`, and when to try again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Calls that are open at the public listener; at least 1.
    pub calls: Spanned<usize>,
    /// Calls that are open there of one account; at least 1.
    pub calls_per_account: Spanned<usize>,
    /// Commands that are under way on one host; at least 1. Those past it wait.
    pub commands_per_host: Spanned<u32>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            calls: Spanned::new(0..0, 10_000),
            calls_per_account: Spanned::new(0..0, 5_000),
            commands_per_host: Spanned::new(0..0, 256),
        }
    }
}

impl Check for LimitsConfig {
    fn check(&self, problems: &mut Problems<'_>) {
        for calls in [&self.calls, &self.calls_per_account] {
            if *calls.get_ref() == 0 {
                problems.at(calls, "is 0", "use 1 or more");
            }
        }
        if *self.commands_per_host.get_ref() == 0 {
            problems.at(&self.commands_per_host, "is 0", "use 1 or more");
        }
    }
}
