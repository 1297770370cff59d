//! Paths of folders, on hosts and on servers.

use std::path::{Component, Path, PathBuf};

/// The longest path, in bytes: what is appended to it must fit into the system's 4,096.
const PATH_MAX: usize = 1_024;

/// What is wrong with the path of a folder. Only its plainest spelling is right, so that two paths
/// are the same folder only if they are the same text.
pub(crate) fn path_problem(path: &str, example: &str) -> Option<String> {
    let example = format!("give an absolute path, as in {example}");
    let parsed = Path::new(path);
    let parts = parsed.components();
    let plain = || {
        let normal = parts
            .clone()
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)));
        // Joined again, the parts have no `//`, `/.` or `/` at the end.
        normal && parts.collect::<PathBuf>().as_os_str() == parsed.as_os_str()
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
        let problem = |path| path_problem(path, "/pool");
        for good in ["/pool", "/var/lib/cairn/pool", "/a.b/..c"] {
            assert_eq!(problem(good), None, "{good}");
        }
        let long = format!("/{}", "x".repeat(PATH_MAX));
        for bad in [
            "", "/", "pool", "./pool", "/pool/", "//pool", "/a//b", "/a/./b", "/a/../b", "/a/..",
            "/a\nb", &long,
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
