//! Who is calling: bearer tokens of accounts, kept as digests.
//!
//! At its first start a cloud has one account, the administrator, and one credential, written
//! to a file that only its owner may read. Whoever has the file is the administrator.

mod admin;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use cairn_mesh::door::{Authenticator, Unauthenticated};
use cairn_store::{Migration, Store, Value};
use cairn_types::AccountUuid;

pub use admin::{AdminError, Credential, ensure_admin};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[Migration {
    service: "identity",
    number: 1,
    name: "credential",
    sql: include_str!("../migrations/0001_credential.sql"),
}];

/// Names callers by the tokens in the database.
#[derive(Debug, Clone)]
pub struct Tokens {
    store: Store,
    // A credential never changes and is never taken back while a node runs.
    known: Arc<RwLock<HashMap<String, AccountUuid>>>,
}

impl Tokens {
    /// The tokens of this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            known: Arc::default(),
        }
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<AccountUuid, Unauthenticated> {
        let digest = digest(token);
        if let Some(account) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
        {
            return Ok(*account);
        }
        let sql = "SELECT account_uuid FROM credential WHERE token_digest = ?";
        let unavailable = |cause| Unauthenticated::Unavailable(Box::new(cause));
        let rows = self
            .store
            .rows(sql, vec![Value::Text(digest.clone())])
            .await;
        let rows = rows.map_err(unavailable)?;
        let row = rows.first().ok_or(Unauthenticated::Unknown)?;
        let account = row.text(0).map_err(unavailable)?;
        let account: AccountUuid = account.parse().map_err(|_| Unauthenticated::Unknown)?;
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, account);
        Ok(account)
    }
}

/// What the database keeps of a token. A token has 256 random bits, so one round of SHA-256 is
/// as good as many.
fn digest(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
