//! A host's state on disk: its key, what enrolment gave it, unacknowledged results, tokens.
//! All functions block.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::RuntimeError;
use cairn_agent_protocol::{Enrollment, Moment, OutcomeReport};
use cairn_tls::{generate_key_and_request, write_private_file};
use cairn_types::{HostUuid, Uuid};

/// A task that ended and was not acknowledged yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptResult {
    pub(crate) report: OutcomeReport,
    pub(crate) resource: Uuid,
    pub(crate) callbacks: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Folder {
    host: HostUuid,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(dir: &Path, host: HostUuid) -> Self {
        Self {
            host,
            path: dir.join(host.to_string()),
        }
    }

    /// The hosts that have a folder.
    pub(crate) fn hosts(dir: &Path) -> Result<Vec<HostUuid>, RuntimeError> {
        let names = entries(dir)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The host's signing request; it and the key are made if there are none.
    pub(crate) fn request(&self) -> Result<String, RuntimeError> {
        let (key_path, request_path) = (self.path.join("key.pem"), self.path.join("host.csr"));
        // The key is written first: a request whose key is there was made for that key.
        if let (Some(_), Some(request)) = (read(&key_path)?, read(&request_path)?) {
            return Ok(request);
        }
        let made =
            generate_key_and_request(self.host).map_err(|cause| RuntimeError::Certificate {
                host: self.host,
                cause,
            })?;
        self.make_folder(&self.path)?;
        write(&key_path, made.key_pem.as_bytes())?;
        write(&request_path, made.request_pem.as_bytes())?;
        Ok(made.request_pem)
    }

    pub(crate) fn key(&self) -> Result<String, RuntimeError> {
        read(&self.path.join("key.pem"))?.ok_or(RuntimeError::NoKey(self.host))
    }

    /// What enrolment gave; `None` if the host is not enrolled yet.
    pub(crate) fn enrollment(&self) -> Result<Option<Enrollment>, RuntimeError> {
        read_json(&self.path.join("node.json"))
    }

    pub(crate) fn write_enrollment(&self, enrollment: &Enrollment) -> Result<(), RuntimeError> {
        write_json(&self.path.join("node.json"), enrollment)
    }

    pub(crate) fn results(&self) -> Result<Vec<KeptResult>, RuntimeError> {
        let folder = self.path.join("tasks");
        let mut results = Vec::new();
        for name in entries(&folder)? {
            let path = folder.join(&name);
            if name.ends_with(".json") {
                results.extend(read_json(&path)?);
            } else {
                // What a crash left half written; if it stays, the next start tries again.
                let _ = fs::remove_file(path);
            }
        }
        Ok(results)
    }

    pub(crate) fn write_result(&self, result: &KeptResult) -> Result<(), RuntimeError> {
        let path = self.result_path(result.report.began);
        self.make_folder(&self.path.join("tasks"))?;
        write_json(&path, result)
    }

    pub(crate) fn remove_result(&self, began: Moment) -> Result<(), RuntimeError> {
        let path = self.result_path(began);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(RuntimeError::File { path, cause })
            }
            _ => Ok(()),
        }
    }

    /// One for each run: that of an earlier one may be removed while the next one's is written.
    fn result_path(&self, began: Moment) -> PathBuf {
        self.path.join("tasks").join(format!("{began}.json"))
    }

    /// The highest fencing token of each resource.
    pub(crate) fn tokens(&self) -> Result<Vec<(Uuid, u64)>, RuntimeError> {
        let folder = self.path.join("tokens");
        let mut tokens = Vec::new();
        for name in entries(&folder)? {
            let Ok(resource) = name.parse() else { continue };
            tokens.extend(read_json(&folder.join(&name))?.map(|token| (resource, token)));
        }
        Ok(tokens)
    }

    pub(crate) fn write_token(&self, resource: Uuid, token: u64) -> Result<(), RuntimeError> {
        let folder = self.path.join("tokens");
        self.make_folder(&folder)?;
        write_json(&folder.join(resource.to_string()), &token)
    }

    fn make_folder(&self, path: &Path) -> Result<(), RuntimeError> {
        fs::create_dir_all(path).map_err(|cause| RuntimeError::File {
            path: path.to_owned(),
            cause,
        })
    }
}

/// The names in a folder; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<String>, RuntimeError> {
    let failed = |cause| RuntimeError::File {
        path: folder.to_owned(),
        cause,
    };
    let names = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())),
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let names = names.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Ok(names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect())
}

fn read(path: &Path) -> Result<Option<String>, RuntimeError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(RuntimeError::File {
            path: path.to_owned(),
            cause,
        }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RuntimeError> {
    read(path)?
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|cause| RuntimeError::Damaged {
            path: path.to_owned(),
            cause: cause.into(),
        })
}

fn write(path: &Path, contents: &[u8]) -> Result<(), RuntimeError> {
    write_private_file(path, contents).map_err(|cause| RuntimeError::File {
        path: path.to_owned(),
        cause,
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RuntimeError> {
    let text = serde_json::to_vec(value).map_err(|cause| RuntimeError::Damaged {
        path: path.to_owned(),
        cause: cause.into(),
    })?;
    write(path, &text)
}

#[cfg(test)]
mod tests {
    use cairn_agent_protocol::Outcome;
    use cairn_types::{OperationUuid, TaskUuid};

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostUuid::generate();
        let folder = Folder::new(dir.path(), host);
        assert!(matches!(folder.key(), Err(RuntimeError::NoKey(_))));
        let request = folder.request().unwrap();
        let key = folder.key().unwrap();
        assert_eq!(folder.request().unwrap(), request, "the key is made once");
        assert_eq!(folder.key().unwrap(), key);
        assert_eq!(Folder::hosts(dir.path()).unwrap(), [host]);

        assert!(folder.results().unwrap().is_empty());
        let report = OutcomeReport {
            task: TaskUuid::generate(),
            operation: OperationUuid::generate(),
            host,
            began: Moment::start(Uuid::from_u128(9)),
            outcome: Outcome::Ok(serde_json::Value::Null),
        };
        let result = KeptResult {
            report: report.clone(),
            resource: Uuid::from_u128(7),
            callbacks: vec!["https://n".to_owned()],
        };
        folder.write_result(&result).unwrap();
        assert_eq!(folder.results().unwrap()[0].report, report);
        folder.remove_result(report.began).unwrap();
        folder.remove_result(report.began).unwrap();
        assert!(folder.results().unwrap().is_empty());

        let resource = Uuid::from_u128(7);
        folder.write_token(resource, 3).unwrap();
        folder.write_token(resource, u64::MAX).unwrap();
        assert_eq!(folder.tokens().unwrap(), [(resource, u64::MAX)]);
    }
}
