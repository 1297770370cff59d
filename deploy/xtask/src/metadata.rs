//! What cargo knows of the workspace.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{
    command::{ask, cargo, root},
    error::XtaskError,
};

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a crate asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Package {
    /// The crate's folder, from the root: `core/types`.
    pub(crate) fn folder(&self) -> String {
        relative(self.manifest_path.parent().unwrap_or(&self.manifest_path))
    }
}

impl Dependency {
    /// The folder from the root, when it is a crate of ours.
    pub(crate) fn folder(&self) -> Option<String> {
        self.path.as_deref().map(relative)
    }

    /// Whether only tests, benches and examples have it.
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Every crate of the workspace.
pub(crate) fn packages() -> Result<Vec<Package>, XtaskError> {
    let json = ask(&mut cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&json).map_err(|cause| XtaskError::Parse {
        what: "the answer of `cargo metadata`".to_owned(),
        cause: cause.into(),
    })?;
    Ok(metadata.packages)
}
