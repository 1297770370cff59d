//! Primary storages: a directory on each host of the clusters that they are attached to.

mod attach;
pub(crate) mod capacity;
mod detach;

use std::{path::Component, path::Path, sync::Arc};

use async_trait::async_trait;
use cairn_operation::Builder;
use cairn_proto::{
    compute::v1alpha1::ResourceState,
    crud::Check,
    fault::Fault,
    storage::v1alpha1::{
        CreatePrimaryStorageRequest, DeletePrimaryStorageRequest, PrimaryStorage,
        UpdatePrimaryStorageRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Updating};
use cairn_store::Tx;

use crate::Area;

/// The longest path, in bytes: what is appended to it must fit into the system's 4,096.
const PATH_MAX: usize = 1_024;

pub(crate) fn register(operations: Builder, area: &Arc<Area>) -> Builder {
    operations
        .register(Creating::<CreatePrimaryStorageRequest, _>::with(New))
        .register(Updating::<UpdatePrimaryStorageRequest>::plain())
        .register(Deleting::<DeletePrimaryStorageRequest>::plain())
        .register(attach::Attach(Arc::clone(area)))
        .register(detach::Detach(Arc::clone(area)))
}

struct New;

#[async_trait]
impl Creation<CreatePrimaryStorageRequest> for New {
    fn check(&self, request: &CreatePrimaryStorageRequest, check: &mut Check) {
        if let Some(problem) = path_problem(&request.path) {
            check.refuse("path", problem);
        }
    }

    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreatePrimaryStorageRequest,
        storage: &mut PrimaryStorage,
    ) -> Result<(), Fault> {
        storage.set_state(ResourceState::Enabled);
        Ok(())
    }
}

/// What is wrong with the directory of a local storage. Only its plainest spelling is right, so
/// that two paths are the same directory only if they are the same text.
fn path_problem(path: &str) -> Option<String> {
    let example = "give an absolute path, as in /var/lib/cairn/pool";
    let parsed = Path::new(path);
    let parts = parsed.components();
    let plain = || {
        let normal = parts
            .clone()
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)));
        // Joined again, the parts have no `//`, `/.` or `/` at the end.
        normal && parts.collect::<std::path::PathBuf>().as_os_str() == parsed.as_os_str()
    };
    if path.is_empty() {
        Some(format!("is missing; {example}"))
    } else if path.len() > PATH_MAX {
        Some(format!("has {} bytes; {PATH_MAX} is the most", path.len()))
    } else if path.chars().any(char::is_control) {
        Some(format!("has control characters; {example}"))
    } else if path == "/" {
        Some(format!("is the root of the file system; {example}"))
    } else if !path.starts_with('/') || !plain() {
        Some(format!("is `{path}`; {example}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_absolute_path_is_one() {
        for good in ["/pool", "/var/lib/cairn/pool", "/a.b/..c"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        let long = format!("/{}", "x".repeat(PATH_MAX));
        for bad in [
            "", "/", "pool", "./pool", "/pool/", "//pool", "/a//b", "/a/./b", "/a/../b", "/a/..",
            "/a\nb", &long,
        ] {
            assert!(path_problem(bad).is_some(), "{bad}");
        }
    }
}
