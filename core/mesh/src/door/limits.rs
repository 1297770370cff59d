//! How many calls may be open at once: what is past that is answered at once, and nobody else
//! waits for it.

use cairn_queue::{Caps, Overloaded, Permit};
use cairn_types::AccountUuid;

/// Caps on the calls that are open at the public door, from the request to the end of the answer.
/// Clones share them.
#[derive(Debug, Clone)]
pub struct CallLimits {
    all: Caps<()>,
    of_account: Caps<AccountUuid>,
}

/// A call that is counted as long as this lives.
pub(super) struct Counted(
    #[expect(dead_code, reason = "held for its drop")] (Permit<()>, Permit<AccountUuid>),
);

impl CallLimits {
    /// So many calls of all accounts, and of one.
    #[must_use]
    pub fn new(calls: usize, calls_per_account: usize) -> Self {
        Self {
            all: Caps::new("calls of all accounts (limits.calls)", calls),
            of_account: Caps::new(
                "calls of one account (limits.calls_per_account)",
                calls_per_account,
            ),
        }
    }

    pub(super) fn take(&self, account: AccountUuid) -> Result<Counted, Overloaded> {
        let of_account = self.of_account.take(account)?;
        Ok(Counted((self.all.take(())?, of_account)))
    }
}
