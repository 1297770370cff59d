//! What a person reads when a configuration is wrong.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    lease_secs: Spanned<u64>,
    store: Store,
    #[serde(default)]
    hosts: Vec<Host>,
    #[serde(default = "two")]
    workers: Spanned<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    path: Spanned<String>,
    mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Sqlite,
    Postgres,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: Spanned<String>,
    port: u16,
}

fn two() -> Spanned<u8> {
    Spanned::new(0..0, 2)
}

impl Check for Sample {
    fn check(&self, problems: &mut Problems<'_>) {
        if !(1..=60).contains(self.lease_secs.get_ref()) {
            problems.at(
                &self.lease_secs,
                format!("is {}", self.lease_secs.get_ref()),
                "use 1 to 60",
            );
        }
        if !self.store.path.get_ref().starts_with('/') {
            problems.at(
                &self.store.path,
                "is a relative path",
                "use an absolute one",
            );
        }
        for host in &self.hosts {
            if host.name.get_ref().is_empty() {
                problems.at(&host.name, "is empty", "");
            }
            assert!(host.port > 0 || self.store.mode.is_none());
        }
        if *self.workers.get_ref() > 8 {
            problems.at(&self.workers, "is more than 8", "");
        }
        if self.hosts.len() > 2 {
            problems.of("hosts", "has more than 2 entries", "");
        }
    }
}

const GOOD: &str = "lease_secs = 5\n[store]\npath = '/var/lib/cairn'\nmode = 'sqlite'\n";

/// The lines below the headline of the error.
fn check(text: &str, expected: &[&str]) {
    let lines: Vec<String> = match parse::<Sample>(text, "node.toml") {
        Ok(_) => Vec::new(),
        Err(error) => error
            .to_string()
            .lines()
            .skip(1)
            .map(|l| l.trim().to_owned())
            .collect(),
    };
    assert_eq!(lines, expected, "for:\n{text}");
}

#[test]
fn a_right_file_has_no_problems() {
    check(GOOD, &[]);
}

#[test]
fn an_unknown_key_names_the_nearest_or_all() {
    check(
        &format!("{GOOD}pth = 3\n"),
        &["node.toml:5:1: `store.pth`: is not a key that exists; did you mean `path`?"],
    );
    check(
        &format!("colour = 'red'\n{GOOD}"),
        &["node.toml:1:1: `colour`: is not a key that exists; \
           the keys here are lease_secs, store, hosts, workers"],
    );
    check(
        "lease_secs = 5\nstore = { path = '/x', mode = 'sqlit' }",
        &[
            "node.toml:2:31: `store.mode`: is `sqlit`, which is not a value that exists; \
           did you mean `sqlite`?",
        ],
    );
}

#[test]
fn a_wrong_type_says_the_right_one_and_repeats_no_string() {
    check(
        "lease_secs = 'hunter2'\n[store]\npath = ['/x']\n",
        &[
            "node.toml:1:14: `lease_secs`: is a string; \
             use a whole number from 0 to 9223372036854775807",
            "node.toml:3:8: `store.path`: is an array; use a string",
        ],
    );
    check(
        "store = 4\nlease_secs = 3.5\n",
        &[
            "node.toml:1:9: `store`: is 4; use a table",
            "node.toml:2:14: `lease_secs`: is 3.5; use a whole number from 0 to 9223372036854775807",
        ],
    );
}

#[test]
fn out_of_range_for_the_type() {
    check(
        &format!(
            "workers = 256\n{GOOD}\n[[hosts]]\nname = 'a'\nport = 1\n[[hosts]]\nname = 'b'\nport = -1"
        ),
        &[
            "node.toml:1:11: `workers`: is 256; use a whole number from 0 to 255",
            "node.toml:12:8: `hosts[1].port`: is -1; use a whole number from 0 to 65535",
        ],
    );
}

#[test]
fn every_problem_of_meaning_has_its_line() {
    check(
        "lease_secs = 0\n\n[store]\npath = 'here'\n[[hosts]]\nname = ''\nport = 1\n",
        &[
            "node.toml:1:14: `lease_secs`: is 0; use 1 to 60",
            "node.toml:4:8: `store.path`: is a relative path; use an absolute one",
            "node.toml:6:8: `hosts[0].name`: is empty",
        ],
    );
    let host = "[[hosts]]\nname = 'a'\nport = 1\n";
    check(
        &[GOOD, host, host, host].concat(),
        &["node.toml: `hosts`: has more than 2 entries"],
    );
}

#[test]
fn a_missing_key_is_told_once() {
    check(
        "lease_secs = 5\n[store]\n",
        &["node.toml:2:1: `store.path`: is missing"],
    );
    check(
        "lease_secs = 5\nbad = 1\n[store]\npath = 3\n[[hosts]]\nname = 'a'\n",
        &[
            "node.toml:2:1: `bad`: is not a key that exists; \
             the keys here are lease_secs, store, hosts, workers",
            "node.toml:4:8: `store.path`: is 3; use a string",
            "node.toml:5:1: `hosts[0].port`: is missing",
        ],
    );
}

#[test]
fn every_error_of_syntax_is_told() {
    check(
        "lease_secs = \n[store\npath = '/x'\n",
        &[
            "node.toml:1:14: string values must be quoted, expected literal string",
            "node.toml:2:7: unclosed table, expected `]`",
        ],
    );
}

#[test]
fn a_missing_file_is_named() {
    let path = "/nonexistent/node.toml";
    let error = load::<Sample>(path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read configuration file `/nonexistent/node.toml`"
    );
    assert!(
        matches!(error, ConfigError::Read { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    );
}
