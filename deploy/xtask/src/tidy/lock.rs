//! The lock file holds nothing that deny.toml bans.
//!
//! cargo-deny reads the same list and knows more, but it is slow to install; this much needs no
//! tool, so that a crate that wants a C tool chain is refused by the change that brings it.

use toml::{Table, Value};

use crate::error::XtaskError;

/// Every banned crate that is in the lock file.
pub(super) fn check(deny: &str, lock: &str) -> Result<Vec<String>, XtaskError> {
    let deny = super::parse("deny.toml", deny)?;
    let lock = super::parse("Cargo.lock", lock)?;
    let banned = deny.get("bans").and_then(|bans| bans.get("deny"));
    let packages = entries(lock.get("package"));
    Ok(entries(banned)
        .filter_map(|ban| Some((text(ban, "crate")?, text(ban, "reason").unwrap_or_default())))
        .filter(|(name, _)| packages.clone().any(|package| text(package, "name") == Some(*name)))
        .map(|(name, reason)| {
            format!("Cargo.lock: `{name}` is banned ({reason}); `cargo tree -i {name}` shows whose it is")
        })
        .collect())
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = &Table> + Clone {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_table)
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let deny =
            "[bans]\ndeny = [{ crate = 'openssl-sys', reason = 'needs C' }, { crate = 'x' }]";
        let lock = |name| format!("version = 4\n[[package]]\nname = '{name}'\nversion = '1'\n");
        for (name, expected) in [("openssl-sys", 1), ("x", 1), ("openssl", 0), ("xx", 0)] {
            assert_eq!(check(deny, &lock(name)).unwrap().len(), expected, "{name}");
        }
        assert_eq!(check("", "").unwrap(), [""; 0]);
    }
}
