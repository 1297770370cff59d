//! Rules of a crate's `Cargo.toml`: lints and versions are decided once, at the root.

use toml::{Table, Value};

use crate::error::XtaskError;

const DEPENDENCIES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// Every rule that the manifest breaks.
pub(super) fn check(path: &str, text: &str) -> Result<Vec<String>, XtaskError> {
    let manifest = super::parse(path, text)?;
    let mut findings = Vec::new();
    if manifest
        .get("lints")
        .is_none_or(|lints| !of_workspace(lints))
    {
        findings.push(format!("{path}: `[lints]` is not `workspace = true`"));
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    for table in [&manifest].into_iter().chain(targets) {
        for dependencies in DEPENDENCIES
            .iter()
            .filter_map(|kind| table.get(*kind)?.as_table())
        {
            for (name, _) in dependencies
                .iter()
                .filter(|(_, value)| !of_workspace(value))
            {
                findings.push(format!(
                    "{path}: `{name}` is not `workspace = true`; versions are in the root's manifest"
                ));
            }
        }
    }
    Ok(findings)
}

fn of_workspace(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_and_every_dependency_come_from_the_root() {
        let lints = "[lints]\nworkspace = true\n";
        for (text, expected) in [
            (lints.to_owned(), 0),
            (String::new(), 1),
            ("[lints]\nworkspace = false\n".to_owned(), 1),
            (format!("{lints}[dependencies]\na.workspace = true\n"), 0),
            (
                format!("{lints}[dependencies]\na = {{ workspace = true, features = ['x'] }}\n"),
                0,
            ),
            (
                format!("{lints}[dependencies]\na = '1'\nb = {{ path = '../b' }}\n"),
                2,
            ),
            (format!("{lints}[dev-dependencies]\na = '1'\n"), 1),
            (format!("{lints}[build-dependencies]\na = '1'\n"), 1),
            (
                format!("{lints}[target.'cfg(unix)'.dependencies]\na = '1'\n"),
                1,
            ),
        ] {
            let found = check("a/Cargo.toml", &text).unwrap();
            assert_eq!(found.len(), expected, "{text}\n{found:?}");
        }
        assert!(check("a/Cargo.toml", "[").is_err());
    }
}
