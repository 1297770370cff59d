//! The operations that an operation called, and those that these called, as a tree.

use std::collections::{HashMap, HashSet};

use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{Operation, OperationChild},
};
use cairn_store::{Store, Value};

/// The most that are told. What a person reads has an end; the rest is found by a query.
const MOST: usize = 500;

/// Whose children one statement looks up.
const AT_ONCE: usize = 200;

/// The tree below an operation, each behind the one that called it; and whether there are more.
pub(crate) async fn children(
    store: &Store,
    uuid: &str,
) -> Result<(Vec<OperationChild>, bool), Fault> {
    let mut by_parent: HashMap<String, Vec<Operation>> = HashMap::new();
    let (mut level, mut known) = (vec![uuid.to_owned()], HashSet::from([uuid.to_owned()]));
    let mut room = MOST + 1;
    while !level.is_empty() && room > 0 {
        let mut next = Vec::new();
        for parents in level.chunks(AT_ONCE) {
            let marks = vec!["?"; parents.len()].join(", ");
            let called = format!("parent_uuid IN ({marks}) ORDER BY create_time, uuid LIMIT ?");
            let most = Value::Int(i64::try_from(room).unwrap_or(i64::MAX));
            let values = parents.iter().map(Value::from).chain([most]);
            for child in store.list::<Operation>(&called, values.collect()).await? {
                // A row that calls itself in a circle is told once.
                if room == 0 || !known.insert(child.uuid.clone()) {
                    continue;
                }
                room -= 1;
                next.push(child.uuid.clone());
                let parent = child.parent_uuid.clone().unwrap_or_default();
                by_parent.entry(parent).or_default().push(child);
            }
        }
        level = next;
    }
    let mut children = Vec::new();
    lay(uuid, 0, &mut by_parent, &mut children);
    let more = children.len() > MOST;
    children.truncate(MOST);
    Ok((children, more))
}

/// Puts what an operation called behind `children`, with all that is below.
fn lay(
    parent: &str,
    depth: u32,
    by_parent: &mut HashMap<String, Vec<Operation>>,
    children: &mut Vec<OperationChild>,
) {
    for child in by_parent.remove(parent).unwrap_or_default() {
        let uuid = child.uuid.clone();
        children.push(OperationChild {
            name: child.name,
            state: child.state,
            resource_uuid: child.resource_uuid,
            error_message: child.error_message.unwrap_or_default(),
            create_time: child.create_time,
            end_time: child.end_time,
            depth,
            uuid: child.uuid,
        });
        lay(&uuid, depth + 1, by_parent, children);
    }
}
