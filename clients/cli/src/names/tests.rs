//! What is a name, what a condition refers to, and what is said of a name that nothing has.

use super::*;
use crate::testing::catalog;
use prost_reflect::FieldDescriptor;

const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn a_uuid_is_no_name_unless_it_is_said_to_be() {
    let forced = format!("name:{UUID}");
    for (text, name) in [
        ("east", Some("east")),
        ("name:east", Some("east")),
        ("name:name:east", Some("name:east")),
        ("name:", Some("")),
        (&forced, Some(UUID)),
        (UUID, None),
        ("01890A5D-AC96-774B-BCCE-B302099A8057", None),
        (
            "01890a5dac96774bbcceb302099a8057",
            Some("01890a5dac96774bbcceb302099a8057"),
        ),
        ("", None),
    ] {
        assert_eq!(name_in(text), name, "{text}");
    }
}

#[test]
fn a_condition_says_whose_uuid_it_compares() {
    let catalog = catalog();
    for (noun, field, target) in [
        ("cluster", "zoneUuid", Some("zone")),
        ("cluster", "zone_uuid", Some("zone")),
        ("host", "cluster.zoneUuid", Some("zone")),
        ("zone", "hosts.clusterUuid", Some("cluster")),
        ("zone", "vmInstances.hostUuid", Some("host")),
        ("zone", "vm_instances.host_uuid", Some("host")),
        ("gadget", "widgetUuid", Some("widget")),
        ("operation", "parentUuid", Some("operation")),
        ("cluster", "uuid", None),
        ("cluster", "zone.name", None),
        ("cluster", "no.such.path", None),
        ("cluster", "zone", None),
        ("nothing", "zoneUuid", None),
    ] {
        let condition = Condition {
            field: field.to_owned(),
            ..Condition::default()
        };
        let found = referenced(&catalog, noun, &condition);
        assert_eq!(found.as_deref(), target, "{noun} {field}");
    }
}

#[test]
fn a_reference_need_not_be_written_out() {
    let catalog = catalog();
    for (noun, path, full) in [
        ("cluster", "zone", Some("zoneUuid")),
        ("host", "cluster.zone", Some("cluster.zoneUuid")),
        ("vm-instance", "rootVolume", Some("rootVolumeUuid")),
        ("vm-instance", "root_volume", Some("rootVolumeUuid")),
        ("cluster", "zoneUuid", None),
        ("cluster", "name", None),
        ("cluster", "hosts", None),
        ("zone", "nothing", None),
        ("zone", "nothing.zone", None),
    ] {
        assert_eq!(
            in_full(&catalog, noun, path).as_deref(),
            full,
            "{noun} {path}"
        );
    }
}

#[test]
fn what_was_meant_is_suggested() {
    let many: Vec<_> = (0..20).map(|n| format!("rack{n}-z")).collect();
    for (name, names, expected) in [
        (
            "esat",
            &["east", "west", "north"][..],
            "; did you mean `east`?",
        ),
        ("EAST", &["east", "west"], "; did you mean `east`?"),
        (
            "xyz",
            &["east", "west", "east"],
            "; there are `east`, `west`",
        ),
        ("xyz", &[], "; there are no zones"),
    ] {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(suggestion(name, names, "zones"), expected, "{name}");
    }
    assert_eq!(suggestion("xyz", many, "zones"), "");
    let steering = vec!["a\u{1b}[2J".to_owned()];
    assert!(!suggestion("a", steering, "zones").contains('\u{1b}'));
}

/// Without it a name could not be given in place of the uuid.
#[test]
fn every_uuid_of_a_request_says_whose_it_is() {
    let actions = Actions::of(Catalog::built_in());
    let mut seen = 0;
    for action in actions.nouns().flat_map(|(_, actions)| actions) {
        for field in grammar::request_fields(action) {
            let name = field.name();
            // Of any type: another field says of which. `delete` knows, and has --plan.
            let says = |field: &FieldDescriptor| field.name() == "resource_type";
            if name == "resource_uuid" && field.parent_message().fields().any(|f| says(&f)) {
                continue;
            }
            let holds = name == "uuid" || name.ends_with("_uuid") || name.ends_with("_uuids");
            if holds && !flag::is_assigned(&field) {
                let full_name = field.full_name();
                assert!(
                    flag::references(&field).is_some(),
                    "{full_name} refers to nothing"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "only {seen} fields");
}
