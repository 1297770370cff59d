//! What becomes of resources, against a model: types that exist in this test only, rows that refer
//! to each other at random, in circles too.

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cairn_proto::{
    cascade::v1alpha1::CascadeAction,
    meta::{Catalog, OnDelete, ResourceType},
};
use cairn_store::{BoxFuture, StoreError};
use cairn_testkit::{Database, TestStore, on_both_databases, proto_set, tables_of};
use proptest::{collection::vec, prelude::ProptestConfig, prop_assert_eq, test_runner::TestRunner};
use prost_reflect::{DynamicMessage, Value};

use self::model::model;
use crate::{CascadeError, Found, order::Order, tree::Tree};

on_both_databases!(what_is_not_there_or_has_no_type_is_refused);
on_both_databases!(blocking: it_finds_what_the_model_finds_in_an_order_that_fits);

/// A type and its references: the field, the type it names, what becomes of it.
type Type = (
    &'static str,
    &'static [(&'static str, &'static str, OnDelete)],
);

use OnDelete::{Clear, Delete, Detach, Part, Refuse, Stop};

/// Circles: a site in a site, racks beside each other, a box in a rack that stands on a box. A lid
/// is a part of a box, and is to go with a rack, too: then the box goes. Labels stay. A lamp is
/// switched off when its rack goes, or when a box goes that is in its rack's site; its plugs are
/// pulled for a box or a lid. An owner takes everything along.
const TYPES: &[Type] = &[
    ("owner", &[]),
    ("site", &[OWNER, ("site_uuid", "site", Delete)]),
    (
        "rack",
        &[
            OWNER,
            ("site_uuid", "site", Delete),
            ("rack_uuid", "rack", Delete),
            ("box_uuid", "box", Delete),
        ],
    ),
    (
        "box",
        &[
            OWNER,
            ("rack_uuid", "rack", Delete),
            ("site_uuid", "site", Delete),
        ],
    ),
    (
        "lid",
        &[
            OWNER,
            ("box_uuid", "box", Part),
            ("rack_uuid", "rack", Delete),
        ],
    ),
    (
        "label",
        &[
            OWNER,
            ("site_uuid", "site", Refuse),
            ("box_uuid", "box", Delete),
            ("lid_uuid", "lid", Refuse),
        ],
    ),
    (
        "lamp",
        &[
            OWNER,
            ("rack_uuid", "rack", Stop),
            ("site_uuid", "site", Clear),
            ("box_uuid", "box", Delete),
        ],
    ),
    (
        "plug",
        &[
            OWNER,
            ("lamp_uuid", "lamp", Part),
            ("box_uuid", "box", Detach),
            ("lid_uuid", "lid", Detach),
        ],
    ),
];

const OWNER: (&str, &str, OnDelete) = ("account_uuid", "owner", Delete);

/// What there is beside the references: how lamps are stopped and plugs detached, and that a rack
/// can be serviced, for which its lamps are switched off.
const RPCS: &str = r#"
enum LampState { LAMP_STATE_UNSPECIFIED = 0; LAMP_STATE_ON = 1; LAMP_STATE_OFF = 2; }
message Request { string uuid = 1; }
service LampService {
  rpc DeleteLamp(Request) returns (Request);
  rpc StopLamp(Request) returns (Request) {
    option (cairn.meta.v1alpha1.rpc).stops = { field: "state" stopped: "Off" };
  }
  rpc DetachPlug(Request) returns (Request) {
    option (cairn.meta.v1alpha1.rpc).detaches = "plug";
  }
}
service RackService {
  rpc DeleteRack(Request) returns (Request);
  rpc ServiceRack(Request) returns (Request) {
    option (cairn.meta.v1alpha1.rpc).cascades = "service";
  }
}
"#;

fn proto() -> String {
    let mut text = "syntax = \"proto3\";\npackage stock.v1;\n\
                    import \"cairn/meta/v1alpha1/annotations.proto\";\n\
                    import \"google/protobuf/timestamp.proto\";\n"
        .to_owned()
        + RPCS;
    for (noun, references) in TYPES {
        let message = noun[..1].to_uppercase() + &noun[1..];
        let more = match *noun {
            "box" => {
                "dependents: { type: \"lamp\" action: ON_DELETE_STOP \
                 where: \"rack.site_uuid = site_uuid\" }"
            }
            _ => "",
        };
        text += &format!(
            "message {message} {{\n  option (cairn.meta.v1alpha1.resource) = \
             {{ name: \"{noun}\" plural: \"{noun}s\" {more} }};\n  string uuid = 1;\n  \
             string name = 2;\n  string description = 3;\n  \
             google.protobuf.Timestamp create_time = 5;\n  \
             google.protobuf.Timestamp last_operation_time = 6;\n"
        );
        if *noun == "owner" {
            text += "  string account_uuid = 4;\n";
        }
        if *noun == "lamp" {
            text += "  LampState state = 20;\n";
        }
        for (number, (field, target, on_delete)) in (9..).zip(*references) {
            let on_delete = match on_delete {
                Refuse => "UNSPECIFIED",
                Delete => "DELETE",
                Part => "PART",
                Stop => "STOP",
                Detach => "DETACH",
                Clear => "CLEAR",
            };
            let more = match (*noun, *field) {
                ("plug", "lamp_uuid") => "on_detach: ON_DELETE_STOP",
                ("lamp", "rack_uuid") => "on: { operation: \"service\" action: ON_DELETE_STOP }",
                _ => "",
            };
            let (label, number) = match *field {
                "account_uuid" => ("", 4),
                _ => ("optional ", number),
            };
            text += &format!(
                "  {label}string {field} = {number} [(cairn.meta.v1alpha1.field) = \
                 {{ references: \"{target}\" on_delete: ON_DELETE_{on_delete} {more} }}];\n"
            );
        }
        text += "}\n";
    }
    text
}

async fn stock(database: Database) -> TestStore {
    let catalog = Arc::new(Catalog::with(&[&proto_set(&proto())]).unwrap());
    let types = TYPES
        .iter()
        .map(|(noun, _)| &**catalog.resource(noun).unwrap());
    let tables = tables_of(types);
    TestStore::with(database, catalog, &[tables]).await
}

/// A row: its type, and for each reference of the type the number of a row of the right type.
#[derive(Debug, Clone)]
struct Row {
    kind: usize,
    refers: Vec<Option<usize>>,
    /// Of a lamp: it is off.
    off: bool,
}

/// A row as it is drawn: its kind, numbers that pick what it refers to, whether it is off.
type Drawn = (usize, Vec<Option<usize>>, bool);

fn uuid(row: usize) -> String {
    format!("u{row}")
}

/// A number picks a row of the right type.
fn rows(drawn: &[Drawn]) -> Vec<Row> {
    let of_type = |target: &str| -> Vec<usize> {
        let rows = drawn.iter().enumerate();
        let rows = rows.filter(|(_, (kind, ..))| TYPES[*kind].0 == target);
        rows.map(|(row, _)| row).collect()
    };
    let all = drawn.iter().map(|(kind, picks, off)| {
        let mut picks = picks.iter().copied().chain(std::iter::repeat(None));
        let refers = TYPES[*kind].1.iter().map(|(_, target, _)| {
            let fitting = of_type(target);
            let pick = picks.next().flatten()?;
            (!fitting.is_empty()).then(|| fitting[pick % fitting.len()])
        });
        Row {
            kind: *kind,
            refers: refers.collect(),
            off: *off,
        }
    });
    all.collect()
}

async fn fill(store: &TestStore, rows: &[Row]) {
    let resource =
        |noun| -> Arc<ResourceType> { Arc::clone(store.catalog().resource(noun).unwrap()) };
    let messages = rows.iter().enumerate().map(|(number, row)| {
        let (noun, references) = TYPES[row.kind];
        let resource = resource(noun);
        let mut message = DynamicMessage::new(resource.message.clone());
        message.set_field_by_name("uuid", Value::String(uuid(number)));
        message.set_field_by_name("name", Value::String(format!("{noun} {number}")));
        if noun == "lamp" {
            message.set_field_by_name("state", Value::EnumNumber(1 + i32::from(row.off)));
        }
        for ((field, _, _), to) in references.iter().zip(&row.refers) {
            if let Some(to) = to {
                message.set_field_by_name(field, Value::String(uuid(*to)));
            }
        }
        (resource, message)
    });
    let messages: Vec<_> = messages.collect();
    let written = store.write(move |tx| -> BoxFuture<'_, Result<(), StoreError>> {
        let messages = messages.clone();
        Box::pin(async move {
            for (noun, _) in TYPES {
                tx.execute(&format!("DELETE FROM {noun}"), vec![]).await?;
            }
            for (resource, message) in &messages {
                tx.insert_dynamic(resource, message).await?;
            }
            Ok(())
        })
    });
    written.await.unwrap();
}

async fn find(
    store: &TestStore,
    noun: &'static str,
    rpc: &'static str,
    uuid: String,
) -> Result<Found, CascadeError> {
    let found = store.write(move |tx| -> BoxFuture<'_, Result<Found, CascadeError>> {
        let uuid = uuid.clone();
        Box::pin(async move {
            let catalog = Arc::clone(tx.catalog());
            let resource = catalog.resource(noun);
            let operation = resource.and_then(|resource| catalog.operation(resource, rpc));
            match operation {
                Some(operation) => crate::find_for(tx, operation, noun, &uuid).await,
                None => crate::find(tx, noun, &uuid).await,
            }
        })
    });
    found.await
}

/// Which units a unit's nodes refer to.
fn references(found: &Found, tree: &Tree) -> BTreeMap<usize, BTreeSet<usize>> {
    let whole = |mut node: usize| {
        while tree.part[node] {
            node = tree.above[node].unwrap();
        }
        node
    };
    let mut refers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for edge in &found.edges {
        let (from, to) = (whole(edge.child), whole(edge.parent));
        if from != to && found.nodes[from].action != CascadeAction::Clear {
            refers.entry(from).or_default().insert(to);
        }
    }
    refers
}

fn reaches(refers: &BTreeMap<usize, BTreeSet<usize>>, from: usize, to: usize) -> bool {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(node) = waiting.pop() {
        for next in refers.get(&node).into_iter().flatten() {
            if *next == to {
                return true;
            }
            if seen.insert(*next) {
                waiting.push(*next);
            }
        }
    }
    false
}

/// Each goes once, and nothing goes before what refers to it, unless they refer to each other.
fn check_order(found: &Found, at_once: usize) {
    let tree = Tree::of(found);
    let refers = references(found, &tree);
    let mut order = Order::of(found);
    let (mut running, mut gone) = (Vec::new(), BTreeSet::new());
    loop {
        while running.len() < at_once {
            let Some(node) = order.next() else { break };
            assert!(!tree.part[node] && !gone.contains(&node) && !running.contains(&node));
            for (from, to) in &refers {
                let early = to.contains(&node) && !gone.contains(from);
                assert!(
                    !early || reaches(&refers, node, *from),
                    "{node} before {from}"
                );
            }
            running.push(node);
        }
        let Some(node) = running.pop() else { break };
        gone.insert(node);
        order.done(node);
    }
    let units = found.nodes.iter().zip(&tree.part);
    let units = units.filter(|(node, part)| !**part && node.action != CascadeAction::Clear);
    assert_eq!(gone.len(), units.count());
}

/// Each item is one below the one above it, and a part is right below a whole.
fn check_tree(found: &Found) {
    let content = found.content();
    let mut above: Vec<&str> = Vec::new();
    for item in &content.items {
        let depth = item.depth as usize;
        assert!(depth <= above.len(), "{content:?}");
        assert_eq!(depth == 0, above.is_empty());
        above.truncate(depth);
        if item.action() == CascadeAction::Part {
            let place = |uuid: &str| found.nodes.iter().position(|node| node.uuid == uuid);
            let (part, whole) = (place(&item.resource_uuid), place(above[depth - 1]));
            let edge = found.edges.iter().find(|edge| {
                Some(edge.child) == part && Some(edge.parent) == whole && edge.on_delete == Part
            });
            assert!(
                edge.is_some(),
                "{} is no part of the one above it",
                item.name
            );
        }
        above.push(&item.resource_uuid);
    }
}

fn it_finds_what_the_model_finds_in_an_order_that_fits(database: Database) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(stock(database));
    let refers = vec(proptest::option::weighted(0.6, 0_usize..64), 4);
    let drawn = vec((0..TYPES.len(), refers, proptest::bool::ANY), 1..40);
    // To fill the tables anew costs a server far more than a file.
    let cases = match database {
        Database::Sqlite => 384,
        Database::Postgres => 24,
    };
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let drawn = (drawn, 0_usize..64, 1_usize..5);
    let outcome = runner.run(&drawn, |(drawn, root, at_once)| {
        let rows = rows(&drawn);
        let root = root % rows.len();
        let noun = TYPES[rows[root].kind].0;
        let rpcs: &[_] = match noun {
            "rack" => &["", "ServiceRack"],
            _ => &[""],
        };
        runtime.block_on(fill(&store, &rows));
        for rpc in rpcs {
            let found = runtime
                .block_on(find(&store, noun, rpc, uuid(root)))
                .unwrap();
            let (actions, blockers) = model(&rows, root, !rpc.is_empty());
            let content = found.content();
            let items = content.items.iter();
            let items = items.map(|item| (item.resource_uuid.clone(), item.action()));
            prop_assert_eq!(items.collect::<BTreeMap<_, _>>(), actions);
            prop_assert_eq!(content.items.len(), found.nodes.len());
            let stand = content.blockers.iter().map(|b| b.resource_uuid.clone());
            prop_assert_eq!(stand.collect::<BTreeSet<_>>(), blockers);
            check_tree(&found);
            check_order(&found, at_once);
        }
        Ok(())
    });
    outcome.unwrap();
}

async fn what_is_not_there_or_has_no_type_is_refused(database: Database) {
    let store = stock(database).await;
    let ask = async |noun, uuid: &str| find(&store, noun, "", uuid.to_owned()).await.map(drop);
    let no_type = ask("castle", "u0").await.unwrap_err();
    assert!(matches!(no_type, CascadeError::NoType(_)), "{no_type}");
    // Known, but not in this database.
    let no_type = ask("zone", "u0").await.unwrap_err();
    assert!(matches!(no_type, CascadeError::NoType(_)), "{no_type}");
    let no_site = ask("site", "u0").await.unwrap_err();
    assert_eq!(no_site.to_string(), "there is no site u0");
}
