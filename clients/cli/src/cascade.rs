//! Doing something with all that it has to be done with: the flags that a call has for it, and what
//! a plan looks like.

use std::collections::BTreeMap;

use cairn_proto::cascade::v1alpha1::{CascadeAction, GetCascadePlanResponse};
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
    /// It is shown.
    Plan,
    /// It is done.
    Execute {
        /// Also after something could not be done.
        enforce: bool,
    },
}

/// The flags of a call that a cascade can begin with.
pub(crate) fn args() -> [Arg; 3] {
    [
        Arg::new("plan")
            .long("plan")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["cascade", "no-wait"])
            .help(
                "Change nothing; show all that would have to be done with it, and what is in the \
                 way.",
            ),
        Arg::new("cascade")
            .long("cascade")
            .action(ArgAction::SetTrue)
            .help("Do everything that has to be done with it, too, what is below first."),
        Arg::new("enforce")
            .long("enforce")
            .action(ArgAction::SetTrue)
            .requires("cascade")
            .help("Go on after a failure, and leave only what has to come after it."),
    ]
}

/// Whether the action does something to resources for which others may have to be dealt with.
pub(crate) fn is_offered(action: &Action, actions: &Actions) -> bool {
    actions.catalog.cascade_of(&action.method).is_some()
        && action.noun != PLAN
        && actions.find("create", PLAN).is_some()
}

pub(crate) fn read(matches: &ArgMatches) -> Option<Cascade> {
    let enforce = matches.get_flag("enforce");
    match (matches.get_flag("plan"), matches.get_flag("cascade")) {
        (true, _) => Some(Cascade::Plan),
        (false, true) => Some(Cascade::Execute { enforce }),
        (false, false) => None,
    }
}

/// A plan as a tree, and what is in its way.
pub(crate) fn text(found: &GetCascadePlanResponse) -> String {
    let mut text = String::new();
    for item in &found.items {
        let indent = 2 * usize::try_from(item.depth).unwrap_or_default();
        let action = match item.action() {
            CascadeAction::Part => "  (part)",
            CascadeAction::Stop => "  (stop)",
            CascadeAction::Detach => "  (detach)",
            CascadeAction::Clear => "  (clear)",
            _ => "",
        };
        let name = table::printable(&item.name);
        let (noun, uuid) = (&item.resource_type, &item.resource_uuid);
        text += &format!("{:indent$}{noun} {name}  {uuid}{action}\n", "");
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
    for failure in &found.failures {
        let item = failure.item.clone().unwrap_or_default();
        text += &format!(
            "left: {} {}  {}: {}\n",
            item.resource_type,
            table::printable(&item.name),
            item.resource_uuid,
            table::printable(&failure.message),
        );
    }
    text
}

/// `7 resources: 1 cluster, 2 host, …; stopped: 3 vm-instance`
pub(crate) fn summary(found: &GetCascadePlanResponse) -> String {
    let of = |actions: &[CascadeAction]| {
        let mut by_noun: BTreeMap<&str, u64> = BTreeMap::new();
        for count in &found.counts {
            if actions.contains(&count.action()) {
                *by_noun.entry(&count.resource_type).or_default() += count.count;
            }
        }
        let all: u64 = by_noun.values().sum();
        let each = by_noun
            .iter()
            .map(|(noun, count)| format!("{count} {noun}"));
        (all, each.collect::<Vec<_>>().join(", "))
    };
    let mut told = Vec::new();
    let (all, each) = of(&[CascadeAction::Delete, CascadeAction::Part]);
    if all > 0 {
        let resources = if all == 1 { "resource" } else { "resources" };
        told.push(format!("{all} {resources}: {each}"));
    }
    for (word, action) in [
        ("stopped", CascadeAction::Stop),
        ("detached", CascadeAction::Detach),
        ("cleared", CascadeAction::Clear),
    ] {
        let (all, each) = of(&[action]);
        if all > 0 {
            told.push(format!("{word}: {each}"));
        }
    }
    match told.is_empty() {
        true => "nothing else is concerned".to_owned(),
        false => told.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::{
        cascade::v1alpha1::{CascadeBlocker, CascadeCount, CascadeItem, CascadePlan},
        meta::Catalog,
    };

    use super::*;

    #[test]
    fn what_others_may_be_concerned_by_has_the_flags() {
        let actions = Actions::of(Catalog::built_in());
        for (noun, verb, offered) in [
            ("zone", "delete", true),
            ("vm-instance", "delete", true),
            ("zone", "update", false),
            ("cascade-plan", "delete", false),
            ("l2-network", "detach-from-cluster", true),
            ("host", "enter-maintenance", true),
            ("host", "leave-maintenance", false),
            ("vm-instance", "stop", false),
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
        let count = |noun: &str, action: CascadeAction, count| CascadeCount {
            resource_type: noun.to_owned(),
            action: action.into(),
            count,
        };
        let found = GetCascadePlanResponse {
            cascade_plan: Some(CascadePlan {
                name: "delete zone east".to_owned(),
                item_count: 5,
                ..Default::default()
            }),
            counts: vec![
                count("zone", CascadeAction::Delete, 1),
                count("vm-instance", CascadeAction::Delete, 2),
                count("vm-instance", CascadeAction::Stop, 3),
                count("vm-nic", CascadeAction::Part, 2),
            ],
            items: vec![
                item("zone", "east", 0, CascadeAction::Delete),
                item("vm-instance", "web", 1, CascadeAction::Delete),
                item("vm-nic", "web-0", 2, CascadeAction::Part),
                item("vm-instance", "db", 1, CascadeAction::Stop),
            ],
            blockers: vec![CascadeBlocker {
                resource_type: "label".to_owned(),
                resource_uuid: "u-x".to_owned(),
                name: "x".to_owned(),
                refers_to_type: "zone".to_owned(),
                refers_to_uuid: "u-east".to_owned(),
            }],
            failures: vec![],
        };
        assert_eq!(
            text(&found),
            "zone east  u-east\n  vm-instance web  u-web\n    vm-nic web-0  u-web-0  (part)\n  \
             vm-instance db  u-db  (stop)\n… and 1 more\n\n\
             delete zone east: 5 resources: 2 vm-instance, 2 vm-nic, 1 zone; stopped: \
             3 vm-instance\n\
             in the way: label x  u-x, which refers to zone u-east\n"
        );
    }
}
