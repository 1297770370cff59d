//! The rules of the house that no other tool knows: of files, manifests and the lock file.

mod lock;
mod manifest;
mod text;

use std::{fs, io, path::Path};

use crate::{
    command::{ask, command, root},
    error::XtaskError,
};

/// Fails when a file that git tracks, or would, breaks a rule.
pub(crate) fn check() -> Result<(), XtaskError> {
    let mut findings = Vec::new();
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    for path in ask(&mut command("git", &list))?.lines() {
        let Some(content) = read(path)? else { continue };
        findings.extend(text::check(path, &content));
        if path.ends_with("/Cargo.toml") {
            findings.extend(manifest::check(path, &content)?);
        }
    }
    let (deny, lock) = (read("deny.toml")?, read("Cargo.lock")?);
    findings.extend(lock::check(
        &deny.unwrap_or_default(),
        &lock.unwrap_or_default(),
    )?);
    XtaskError::of_findings(findings)
}

/// The file's text; none for what is deleted but still known to git, a folder, or not a text.
fn read(path: &str) -> Result<Option<String>, XtaskError> {
    let path = root().join(path);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidData => {
                Ok(None)
            }
            _ => Err(XtaskError::File { path, cause: error }),
        },
    }
}

fn parse(path: impl AsRef<Path>, content: &str) -> Result<toml::Table, XtaskError> {
    content
        .parse()
        .map_err(|cause: toml::de::Error| XtaskError::Parse {
            what: path.as_ref().display().to_string(),
            cause: cause.into(),
        })
}
