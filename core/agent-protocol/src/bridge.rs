//! Commands for the bridges that virtual machines are plugged into. Each is idempotent: what is
//! there already, or gone already, is a success.

use serde::{Deserialize, Serialize};

/// Makes a bridge over a physical interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsureBridge {
    /// The bridge; at most 15 characters.
    pub bridge: String,
    /// The interface; it must be there.
    pub interface: String,
}

/// Removes a bridge. Its physical interface stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBridge {
    /// The bridge; one that a virtual machine is plugged into is a failure.
    pub bridge: String,
}
