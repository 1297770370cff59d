//! The credential: which server to call, whom to trust, and who calls.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use crate::error::CliError;

/// Where things are, apart from the command line.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The file that `CAIRN_CREDENTIAL` names.
    pub credential: Option<PathBuf>,
    /// Looked at in this order when no file is named.
    pub places: Vec<PathBuf>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let own = home.map(|home| home.join(".config/cairn/credential.json"));
        let system = PathBuf::from("/var/lib/cairn/admin.json");
        Self {
            credential: std::env::var_os("CAIRN_CREDENTIAL").map(PathBuf::from),
            places: own.into_iter().chain([system]).collect(),
        }
    }
}

/// A credential file's content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Credential {
    /// `https://127.0.0.1:7070`
    pub(crate) endpoint: String,
    /// In PEM.
    pub(crate) ca_certificate: String,
    /// Secret.
    pub(crate) token: String,
}

/// Reads the credential: the named file, else the environment's, else the first that is there.
pub(crate) fn read(
    named: Option<&str>,
    endpoint: Option<&str>,
    environment: &Environment,
) -> Result<Credential, CliError> {
    let named = named.map(PathBuf::from).or(environment.credential.clone());
    let places = &environment.places;
    let path = match named {
        Some(path) => path,
        None => places
            .iter()
            .find(|place| place.exists())
            .cloned()
            .ok_or_else(|| CliError::NoCredential {
                places: places.clone(),
            })?,
    };
    let text = fs::read_to_string(&path).map_err(|cause| CliError::CredentialFile {
        path: path.clone(),
        cause,
    })?;
    let mut credential: Credential =
        serde_json::from_str(&text).map_err(|cause| CliError::Credential { path, cause })?;
    if let Some(endpoint) = endpoint {
        endpoint.clone_into(&mut credential.endpoint);
    }
    Ok(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_credential_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            let text =
                format!(r#"{{"endpoint":"https://{name}","caCertificate":"c","token":"t"}}"#);
            fs::write(&path, text).unwrap();
            path
        };
        let (flag, variable, home) = (file("flag"), file("variable"), file("home"));
        let absent = dir.path().join("absent");
        let flag = flag.to_str();
        let environment = |credential: Option<&PathBuf>| Environment {
            credential: credential.cloned(),
            places: vec![absent.clone(), home.clone()],
        };
        for (named, endpoint, environment, expected) in [
            (flag, None, environment(Some(&variable)), "https://flag"),
            (None, None, environment(Some(&variable)), "https://variable"),
            (None, None, environment(None), "https://home"),
            (flag, Some("https://x"), environment(None), "https://x"),
        ] {
            let credential = read(named, endpoint, &environment).unwrap();
            assert_eq!(credential.endpoint, expected);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let none = Environment {
            credential: None,
            places: vec![dir.path().join("a"), dir.path().join("b")],
        };
        let error = read(None, None, &none).unwrap_err().to_string();
        assert!(
            error.contains("no credential") && error.contains("/b"),
            "{error}"
        );
        let broken = dir.path().join("broken");
        fs::write(&broken, r#"{"endpoint": "https://x"}"#).unwrap();
        let error = read(broken.to_str(), None, &none).unwrap_err();
        let text = cairn_types::chain(&error);
        assert!(
            text.contains("broken") && text.contains("caCertificate"),
            "{text}"
        );
    }
}
