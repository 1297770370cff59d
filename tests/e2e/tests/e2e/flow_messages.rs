//! The messages that runs of flows keep in the log only gain fields: a run that began before an
//! upgrade goes on after it.

use std::collections::BTreeSet;

use cairn_e2e::Cloud;
use cairn_proto::meta::Catalog;
use prost_reflect::{Kind, MessageDescriptor};

/// Every field of every message, as `message number type`.
const GOLDEN: &str = include_str!("flow_messages.txt");

/// The fields of messages, and of those in them.
#[derive(Default)]
struct Fields {
    lines: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Fields {
    fn add(&mut self, message: &MessageDescriptor) {
        let name = message.full_name();
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(inner) => {
                    self.add(&inner);
                    inner.full_name().to_owned()
                }
                Kind::Enum(inner) => inner.full_name().to_owned(),
                scalar => format!("{scalar:?}").to_lowercase(),
            };
            let many = if field.is_list() || field.is_map() {
                " repeated"
            } else {
                ""
            };
            let line = format!("{name} {} {kind}{many}", field.number());
            self.lines.insert(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_keeps_only_gains_fields() {
    let cloud = Cloud::start().await;
    let (catalog, flows) = (Catalog::built_in(), cloud.node().flows());
    let mut fields = Fields::default();
    for flow in flows.all() {
        let steps = flow
            .steps()
            .flat_map(|at| [at.step.needs(), at.step.provides()].concat());
        let inputs = flow.inputs().iter().map(String::as_str);
        for name in steps.chain(inputs) {
            let message = catalog.pool().get_message_by_name(name);
            fields.add(&message.unwrap_or_else(|| panic!("{name} is no message")));
        }
    }
    let fields = fields.lines;
    let golden: BTreeSet<_> = GOLDEN.lines().map(str::to_owned).collect();
    let gone: Vec<_> = golden.difference(&fields).cloned().collect();
    assert!(
        gone.is_empty(),
        "runs that began before have these, and go on with what they have: {gone:#?}"
    );
    let new: Vec<_> = fields.difference(&golden).cloned().collect();
    assert!(
        new.is_empty(),
        "add to flow_messages.txt, for from now on they stay:\n{}",
        new.join("\n")
    );
}
