//! The administrator's credential: a file on the node, and its digest in the database.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cairn_store::{Store, StoreError, Value};
use cairn_tls::write_private_file;
use cairn_types::{AccountUuid, Coded, ErrorCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::digest;

/// What a client needs to call as an account; a file in JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The public listener: `https://127.0.0.1:7070`.
    pub endpoint: String,
    /// The certificate of the cloud's CA, in PEM.
    pub ca_certificate: String,
    /// The bearer token.
    pub token: String,
}

/// An administrator's credential that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The file cannot be read or written.
    #[error("the credential file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is there, and is no credential.
    #[error("{path} is not a credential; move it away and a new one is made")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// The system has no randomness.
    #[error("no random bytes from the system")]
    Random,
    /// The database failed.
    #[error("store the administrator's credential")]
    Store(#[from] StoreError),
}

impl Coded for AdminError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Store(cause) => cause.code(),
            _ => ErrorCode::Internal,
        }
    }
}

/// Makes the administrator's credential if `path` does not hold one, and lets it in. A file
/// that was taken away is replaced by a new token; the old one is good no longer.
///
/// # Errors
/// [`AdminError`], as its variants say.
pub async fn ensure_admin(
    store: &Store,
    path: &Path,
    endpoint: &str,
    ca_certificate: &str,
) -> Result<(), AdminError> {
    let file = |cause| AdminError::File {
        path: path.to_owned(),
        cause,
    };
    let token = match fs::read(path) {
        Ok(bytes) => {
            let found: Credential =
                serde_json::from_slice(&bytes).map_err(|cause| AdminError::Malformed {
                    path: path.to_owned(),
                    cause,
                })?;
            found.token
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_token()?,
        Err(cause) => return Err(file(cause)),
    };
    // The file first: a process that dies in between makes the row at its next start.
    let credential = Credential {
        endpoint: endpoint.to_owned(),
        ca_certificate: ca_certificate.to_owned(),
        token: token.clone(),
    };
    let bytes = serde_json::to_vec_pretty(&credential).map_err(|cause| AdminError::Malformed {
        path: path.to_owned(),
        cause,
    })?;
    write_private_file(path, &bytes).map_err(file)?;

    let digest = digest(&token);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    store
        .write(move |tx| {
            let digest = digest.clone();
            Box::pin(async move {
                let account = AccountUuid::ADMIN.to_string();
                tx.execute(
                    "DELETE FROM credential WHERE account_uuid = ? AND name = 'admin' AND token_digest <> ?",
                    vec![Value::Text(account.clone()), Value::Text(digest.clone())],
                )
                .await?;
                tx.execute(
                    "INSERT INTO credential (token_digest, account_uuid, name, create_time) \
                     VALUES (?, ?, 'admin', ?) ON CONFLICT (token_digest) DO NOTHING",
                    vec![Value::Text(digest), Value::Text(account), Value::Int(now)],
                )
                .await?;
                Ok::<_, StoreError>(())
            })
        })
        .await?;
    Ok(())
}

fn new_token() -> Result<String, AdminError> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AdminError::Random)?;
    Ok(format!("cairn-{}", URL_SAFE_NO_PAD.encode(bytes)))
}
