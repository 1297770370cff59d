//! All that there is in a cloud, as lines: each row of the database, what the hosts have, and the
//! files of images.

use std::collections::{BTreeSet, HashSet};

use cairn_node::Node;
use cairn_simulator::HostState;
use cairn_testkit::SftpServer;

/// Tables that tell of work and not of what there is.
const WORK: [&str; 6] = [
    "operation",
    "flow_",
    "cascade_",
    "sqlite_",
    "idempotency",
    "dhcp_bridge",
];
/// Lines of what is kept for the next one, and comes again when it is needed.
const KEPT: [&str; 3] = ["image_cache: ", " images ", "primary_storage_capacity: "];
/// Columns that change with time alone, or by what else uses the machine.
const TIME: [&str; 6] = [
    "create_time",
    "last_operation_time",
    "available_bytes_time",
    "boot_id",
    "agent_incarnation",
    "revision",
];
/// Fields of hosts that say when something ran, not what.
const RUNS: [&str; 5] = ["pid", "next_pid", "console", "boot_id", "revision"];

/// The lines, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump(Vec<String>);

impl Dump {
    /// What there is now.
    pub async fn of(node: &Node, hosts: &[HostState], sftp: &SftpServer) -> Self {
        let mut lines = Vec::new();
        for table in texts(node, "SELECT name FROM sqlite_master WHERE type = 'table'").await {
            if WORK.iter().any(|work| table.starts_with(work)) {
                continue;
            }
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns = texts(node, &columns).await;
            let columns = columns.iter().filter(|c| !TIME.contains(&c.as_str()));
            // How much a server has left is a matter of the machine that the test runs on.
            let parts =
                columns.filter(|column| !(table == "backup_storage" && column.ends_with("_bytes")));
            let parts: Vec<_> = parts
                .map(|column| format!("'{column}=' || quote({column})"))
                .collect();
            let rows = format!("SELECT {} FROM {table}", parts.join(" || ' ' || "));
            let rows = texts(node, &rows).await;
            lines.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        for host in hosts {
            let mut value = serde_json::to_value(host).unwrap();
            // One that is stopped is as good as none: a start makes it anew, from its row.
            let vms = value["vms"].as_object_mut().unwrap();
            vms.retain(|_, vm| !vm["pid"].is_null());
            without(&mut value, &RUNS);
            let uuid = host.host;
            for (field, value) in value.as_object().unwrap() {
                match value.as_object() {
                    // A bridge that serves nothing is as good as none.
                    Some(object) => lines.extend(
                        object
                            .iter()
                            .filter(|(_, value)| value["subnets"] != serde_json::json!([]))
                            .map(|(key, value)| format!("host {uuid} {field} {key} is {value}")),
                    ),
                    None => lines.push(format!("host {uuid} {field} is {value}")),
                }
            }
        }
        for file in sftp.files() {
            let size = sftp.content(&file).len();
            lines.push(format!("file {file} has {size} bytes"));
        }
        lines.sort();
        Self(lines)
    }

    /// The same with what is not in `before` made equal: uuids and hardware addresses that were
    /// made since.
    #[must_use]
    pub fn relative_to(&self, before: &Self) -> Self {
        let known: HashSet<&str> = before.0.iter().flat_map(|line| words(line)).collect();
        let mut lines: Vec<_> = self.0.iter().map(|line| masked(line, &known)).collect();
        lines.sort();
        Self(lines)
    }

    /// What differs is only what is kept for the next one.
    #[must_use]
    pub fn is_but_for_copies(&self, other: &Self) -> bool {
        let without = |dump: &Self| {
            let lines = dump.0.iter();
            let own = lines.filter(|line| !KEPT.iter().any(|kept| line.contains(kept)));
            own.cloned().collect::<Vec<_>>()
        };
        without(self) == without(other)
    }

    /// What differs, for people.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let (a, b): (BTreeSet<_>, BTreeSet<_>) =
            (self.0.iter().collect(), other.0.iter().collect());
        let gone = a.difference(&b).map(|line| format!("  - {line}"));
        let new = b.difference(&a).map(|line| format!("  + {line}"));
        gone.chain(new).collect::<Vec<_>>().join("\n")
    }
}

async fn texts(node: &Node, sql: &str) -> Vec<String> {
    let rows = node.store().rows(sql, Vec::new()).await.unwrap();
    rows.iter().map(|row| row.text(0).unwrap()).collect()
}

fn without(value: &mut serde_json::Value, fields: &[&str]) {
    match value {
        serde_json::Value::Object(object) => {
            for field in fields {
                object.remove(*field);
            }
            object.values_mut().for_each(|value| without(value, fields));
        }
        serde_json::Value::Array(array) => {
            array.iter_mut().for_each(|value| without(value, fields));
        }
        _ => {}
    }
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == ':'
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_word_char(c))
}

/// The line with new uuids and hardware addresses under one name.
fn masked(line: &str, known: &HashSet<&str>) -> String {
    let mut text = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let uuid = word.len() == 36 && word.matches('-').count() == 4;
        let mac = word.len() == 17 && word.matches(':').count() == 5;
        text.push_str(if (uuid || mac) && !known.contains(word) {
            "<new>"
        } else {
            word
        });
        let mut others = after.chars();
        if let Some(c) = others.next() {
            text.push(c);
        }
        rest = others.as_str();
    }
    text
}
