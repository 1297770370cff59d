//! Tables as they are printed.

use prost_reflect::DynamicMessage;
use serde_json::json;

use super::*;
use crate::testing::catalog;

fn message(catalog: &Catalog, name: &str, json: serde_json::Value) -> DynamicMessage {
    let descriptor = catalog.pool().get_message_by_name(name).unwrap();
    DynamicMessage::deserialize(descriptor, json).unwrap()
}

fn gadget(catalog: &Catalog) -> DynamicMessage {
    let gadget = json!({
        "uuid": "01890a5d-ac96-774b-bcce-b302099a8057",
        "name": "drill",
        "createTime": "2026-02-03T04:05:06.789Z",
        "colour": "COLOUR_LIGHT_GREEN",
        "memoryBytes": "1610612736",
        "pin": "1234",
    });
    message(catalog, "acme.v1.Gadget", gadget)
}

#[test]
fn rows_have_the_columns_of_the_resource() {
    let catalog = catalog();
    let long = "x".repeat(110) + "\nand more";
    let other = json!({"uuid": "u2", "name": long, "endTime": "2026-01-01T00:00:00Z"});
    let all = [gadget(&catalog), message(&catalog, "acme.v1.Gadget", other)];
    let of = all[0].descriptor();
    let expected = "\
uuid                                  name                                                                                                  colour      memoryBytes  endTime
──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
01890a5d-ac96-774b-bcce-b302099a8057  drill                                                                                                 LightGreen  1.5GiB       -
u2                                    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  -           0B           2026-01-01T00:00:00Z
";
    assert_eq!(rows(&all, &columns(&of, &catalog, &[])), expected);
    let wanted = [
        "name".to_owned(),
        "memory_bytes".to_owned(),
        "no".to_owned(),
    ];
    let expected = "\
name   memoryBytes
───────────────────
drill  1.5GiB
";
    assert_eq!(rows(&all[..1], &columns(&of, &catalog, &wanted)), expected);
}

#[test]
fn details_have_every_field_but_secrets() {
    let catalog = catalog();
    let expected = "\
uuid               01890a5d-ac96-774b-bcce-b302099a8057
name               drill
description        -
accountUuid        -
createTime         2026-02-03T04:05:06Z
lastOperationTime  -
colour             LightGreen
memoryBytes        1.5GiB
endTime            -
legs               -
widgetUuid         -
";
    assert_eq!(details(&gadget(&catalog)), expected);
}

#[test]
fn an_operation_is_shown_with_its_steps() {
    let catalog = Catalog::built_in();
    let shown = json!({
        "operation": {"uuid": "o1", "name": "CreateHost", "state": "OPERATION_STATE_FAILED"},
        "steps": [
            {"name": "insert", "position": 1, "state": "OPERATION_STEP_STATE_ROLLED_BACK",
             "kind": "OPERATION_STEP_KIND_STEP", "attempts": 1},
            {"name": "reach", "position": 2, "state": "OPERATION_STEP_STATE_FAILED",
             "kind": "OPERATION_STEP_KIND_GROUP"},
            {"name": "connect", "position": 3, "state": "OPERATION_STEP_STATE_FAILED", "depth": 1,
             "kind": "OPERATION_STEP_KIND_STEP", "attempts": 3, "errorMessage": "no route"},
        ],
    });
    let shown = message(
        &catalog,
        "cairn.operation.v1alpha1.GetOperationResponse",
        shown,
    );
    let text = answer(&shown, &catalog);
    assert!(text.starts_with("uuid               o1\n"), "{text}");
    let steps = "
name       position  state       startTime  endTime  errorMessage  kind   attempts
───────────────────────────────────────────────────────────────────────────────────
insert     1         RolledBack  -          -        -             Step   1
reach      2         Failed      -          -        -             Group  0
  connect  3         Failed      -          -        no route      Step   3
";
    assert!(text.ends_with(steps), "{text}");
}

#[test]
fn values_are_readable_and_harmless() {
    let catalog = catalog();
    let request = json!({
        "name": "a\u{1b}[31mb",
        "tags": ["x", "y"],
        "labels": {"b": "2", "a": "1"},
        "part": {"name": "w"},
        "uptime": "90s",
        "rolls": true,
        "blob": "aGk=",
    });
    let text = details(&message(&catalog, "acme.v1.CreateGadgetRequest", request));
    for line in [
        "name         a\u{fffd}[31mb",
        "tags         x, y",
        "labels       a=1, b=2",
        "part         {\"name\":\"w\"}",
        "uptime       90s",
        "rolls        true",
        "blob         2 bytes",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
}
