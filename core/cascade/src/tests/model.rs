//! What becomes of rows, said as simply as can be.

use std::collections::{BTreeMap, BTreeSet};

use cairn_proto::{
    cascade::v1alpha1::CascadeAction,
    meta::OnDelete::{Clear, Delete, Detach, Part, Refuse, Stop},
};

use super::{Row, TYPES, uuid};

/// What is known of a row's fate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Fate {
    clear: bool,
    detach: bool,
    stop: bool,
    part: bool,
    delete: bool,
}

impl Fate {
    fn goes(self) -> bool {
        self.detach || self.part || self.delete
    }
}

/// What becomes of rows when the root is deleted, or serviced, and what stands against it: the
/// rules, said as simply as can be.
pub(super) fn model(
    rows: &[Row],
    root: usize,
    service: bool,
) -> (BTreeMap<String, CascadeAction>, BTreeSet<String>) {
    let edges = |row: usize| {
        let references = TYPES[rows[row].kind].1.iter().zip(&rows[row].refers);
        references.filter_map(|((field, _, on_delete), to)| Some((*field, *on_delete, (*to)?)))
    };
    let named = |row: usize, name: &str| edges(row).find(|(field, ..)| *field == name);
    let mut fates = vec![Fate::default(); rows.len()];
    fates[root].delete = !service;
    // To be deleted for a reason; then what they are parts of is, too.
    let mut asked = vec![false; rows.len()];
    loop {
        let before = fates.clone();
        for row in 0..rows.len() {
            let goes: Vec<_> = edges(row).filter(|(.., to)| before[*to].goes()).collect();
            for (_, on_delete, _) in goes {
                match on_delete {
                    Refuse => {}
                    Delete => asked[row] = true,
                    Part => fates[row].part = true,
                    Clear => fates[row].clear = true,
                    Stop if rows[row].off => fates[row].clear = true,
                    Stop => fates[row].stop = true,
                    Detach => {
                        fates[row].detach = true;
                        for (field, _, lamp) in edges(row) {
                            if field == "lamp_uuid" && !rows[lamp].off {
                                fates[lamp].stop = true;
                            }
                        }
                    }
                }
            }
            let is = |noun| TYPES[rows[row].kind].0 == noun;
            if is("box") && before[row].goes() {
                let site = named(row, "site_uuid").map(|(.., site)| site);
                for lamp in 0..rows.len() {
                    let rack = named(lamp, "rack_uuid").map(|(.., rack)| rack);
                    let there = rack.and_then(|rack| named(rack, "site_uuid"));
                    let same = there.is_some_and(|(.., there)| Some(there) == site);
                    if TYPES[rows[lamp].kind].0 == "lamp" && same && !rows[lamp].off {
                        fates[lamp].stop = true;
                    }
                }
            }
            if is("lamp") && service && !rows[row].off {
                let rack = named(row, "rack_uuid");
                fates[row].stop |= rack.is_some_and(|(.., rack)| rack == root);
            }
            if asked[row] {
                fates[row].delete = true;
                for (_, on_delete, whole) in edges(row) {
                    if on_delete == Part {
                        asked[whole] = true;
                    }
                }
            }
        }
        if fates == before {
            break;
        }
    }
    let mut actions = BTreeMap::new();
    let mut blockers = BTreeSet::new();
    for (row, fate) in fates.iter().enumerate() {
        let action = match fate {
            _ if service && row == root => CascadeAction::Operate,
            Fate { part: true, .. } => CascadeAction::Part,
            Fate { delete: true, .. } => CascadeAction::Delete,
            Fate { stop: true, .. } => CascadeAction::Stop,
            Fate { detach: true, .. } => CascadeAction::Detach,
            Fate { clear: true, .. } => CascadeAction::Clear,
            _ => CascadeAction::Unspecified,
        };
        if action != CascadeAction::Unspecified {
            actions.insert(uuid(row), action);
        }
        let refuses = |(_, on_delete, to): (_, _, usize)| on_delete == Refuse && fates[to].goes();
        if !fate.goes() && edges(row).any(refuses) {
            blockers.insert(uuid(row));
        }
    }
    (actions, blockers)
}
