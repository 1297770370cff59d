//! Identifiers and stable error codes: the words that every crate shares. No IO.
//!
//! ```
//! use cairn_types::{ErrorCode, ZoneUuid};
//!
//! let zone: ZoneUuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
//! assert_eq!(zone.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
//! assert!("east".parse::<ZoneUuid>().unwrap_err().to_string().contains("not a uuid"));
//! assert_eq!(ErrorCode::NotFound.as_str(), "NOT_FOUND");
//! ```

mod code;
mod id;

pub use code::{Coded, ErrorCode, chain};
pub use id::{
    AccountUuid, ClusterUuid, HostUuid, InvalidUuid, OperationUuid, TaskUuid, Uuid, ZoneUuid,
};
