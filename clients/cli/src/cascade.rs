//! Deleting with everything below: the flags that a delete has for it, and what a plan looks like.

use std::collections::BTreeMap;

use cairn_proto::{
    cascade::v1alpha1::{CascadeAction, GetCascadePlanResponse},
    meta::Deletion,
};
use clap::{Arg, ArgAction, ArgMatches};

use crate::{
    action::{Action, Actions},
    table,
};

/// The noun of plans.
pub(crate) const PLAN: &str = "cascade-plan";
/// What a get of a plan answers.
pub(crate) const PLAN_ANSWER: &str = "cairn.cascade.v1alpha1.GetCascadePlanResponse";
/// The most items that are asked for.
pub(crate) const SHOWN: u32 = 10_000;

/// What is to be done with all that is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cascade {
    /// Shown.
    Plan,
    /// Deleted.
    Delete,
}

/// The flags of a delete.
pub(crate) fn args() -> [Arg; 2] {
    [
        Arg::new("plan")
            .long("plan")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["cascade", "no-wait"])
            .help(
                "Delete nothing; show all that would have to go with it, and what is in the way.",
            ),
        Arg::new("cascade")
            .long("cascade")
            .action(ArgAction::SetTrue)
            .help("Delete everything that has to go with it, too, what is below first."),
    ]
}

/// Whether the action deletes resources that may have others below them.
pub(crate) fn is_offered(action: &Action, actions: &Actions) -> bool {
    let catalog = &actions.catalog;
    let deletes = catalog.resource(&action.noun).is_some_and(
        |resource| matches!(catalog.deletion(resource), Deletion::Rpc(rpc) if rpc == action.method),
    );
    deletes && action.noun != PLAN && actions.find("create", PLAN).is_some()
}

pub(crate) fn read(matches: &ArgMatches) -> Option<Cascade> {
    match (matches.get_flag("plan"), matches.get_flag("cascade")) {
        (true, _) => Some(Cascade::Plan),
        (false, true) => Some(Cascade::Delete),
        (false, false) => None,
    }
}

/// A plan as a tree, and what is in its way.
pub(crate) fn text(found: &GetCascadePlanResponse) -> String {
    let mut text = String::new();
    for item in &found.items {
        let indent = 2 * usize::try_from(item.depth).unwrap_or_default();
        let part = match item.action() {
            CascadeAction::Part => "  (part)",
            _ => "",
        };
        let name = table::printable(&item.name);
        let (noun, uuid) = (&item.resource_type, &item.resource_uuid);
        text += &format!("{:indent$}{noun} {name}  {uuid}{part}\n", "");
    }
    let plan = found.cascade_plan.clone().unwrap_or_default();
    let shown = found.items.len() as u64;
    if plan.item_count > shown {
        text += &format!("… and {} more\n", plan.item_count - shown);
    }
    text += &format!("\n{}: {}\n", plan.name, summary(found));
    for blocker in &found.blockers {
        text += &format!(
            "in the way: {} {}  {}, which refers to {} {}\n",
            blocker.resource_type,
            table::printable(&blocker.name),
            blocker.resource_uuid,
            blocker.refers_to_type,
            blocker.refers_to_uuid,
        );
    }
    text
}

/// `7 resources: 1 cluster, 2 host, …`
pub(crate) fn summary(found: &GetCascadePlanResponse) -> String {
    let mut by_noun: BTreeMap<&str, u64> = BTreeMap::new();
    for count in &found.counts {
        *by_noun.entry(&count.resource_type).or_default() += count.count;
    }
    let all: u64 = by_noun.values().sum();
    let each: Vec<_> = by_noun
        .iter()
        .map(|(noun, count)| format!("{count} {noun}"))
        .collect();
    let resources = if all == 1 { "resource" } else { "resources" };
    format!("{all} {resources}: {}", each.join(", "))
}

#[cfg(test)]
mod tests {
    use cairn_proto::{
        cascade::v1alpha1::{CascadeBlocker, CascadeCount, CascadeItem, CascadePlan},
        meta::Catalog,
    };

    use super::*;

    #[test]
    fn only_a_delete_of_what_others_may_refer_to_has_the_flags() {
        let actions = Actions::of(Catalog::built_in());
        for (noun, verb, offered) in [
            ("zone", "delete", true),
            ("vm-instance", "delete", true),
            ("zone", "update", false),
            ("cascade-plan", "delete", false),
            ("l2-network", "detach-from-cluster", false),
        ] {
            let action = actions.find(noun, verb).unwrap();
            assert_eq!(is_offered(action, &actions), offered, "{verb} {noun}");
        }
    }

    #[test]
    fn a_plan_is_a_tree_with_its_numbers_and_what_is_in_the_way() {
        let item = |noun: &str, name: &str, depth, action: CascadeAction| CascadeItem {
            resource_type: noun.to_owned(),
            resource_uuid: format!("u-{name}"),
            name: name.to_owned(),
            action: action.into(),
            depth,
        };
        let count = |noun: &str, count| CascadeCount {
            resource_type: noun.to_owned(),
            count,
            ..Default::default()
        };
        let found = GetCascadePlanResponse {
            cascade_plan: Some(CascadePlan {
                name: "delete zone east".to_owned(),
                item_count: 5,
                ..Default::default()
            }),
            counts: vec![
                count("zone", 1),
                count("vm-instance", 2),
                count("vm-nic", 2),
            ],
            items: vec![
                item("zone", "east", 0, CascadeAction::Delete),
                item("vm-instance", "web", 1, CascadeAction::Delete),
                item("vm-nic", "web-0", 2, CascadeAction::Part),
            ],
            blockers: vec![CascadeBlocker {
                resource_type: "label".to_owned(),
                resource_uuid: "u-x".to_owned(),
                name: "x".to_owned(),
                refers_to_type: "zone".to_owned(),
                refers_to_uuid: "u-east".to_owned(),
            }],
        };
        assert_eq!(
            text(&found),
            "zone east  u-east\n  vm-instance web  u-web\n    vm-nic web-0  u-web-0  (part)\n\
             … and 2 more\n\ndelete zone east: 5 resources: 2 vm-instance, 2 vm-nic, 1 zone\n\
             in the way: label x  u-x, which refers to zone u-east\n"
        );
    }
}
