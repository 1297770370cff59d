//! Flags by many small cases, over a request with a field of every kind.

use serde_json::{Value, json};

use crate::{
    action::Actions,
    grammar::{Asked, read},
    testing::{catalog, words},
};

fn request(actions: &Actions, args: &[String]) -> Result<Value, String> {
    let Asked::Call(call) = read(actions, args).map_err(|error| error.to_string())? else {
        panic!("{args:?} is no call");
    };
    Ok(serde_json::to_value(&call.request).unwrap())
}

#[test]
fn flags_become_fields() {
    let actions = Actions::of(catalog());
    for (line, expected) in [
        ("--name web", json!({"name": "web"})),
        ("--name=web", json!({"name": "web"})),
        ("--name=--x", json!({"name": "--x"})),
        ("--name @@x", json!({"name": "@x"})),
        ("--uuid u", json!({"uuid": "u"})),
        ("--colour Red", json!({"colour": "COLOUR_RED"})),
        (
            "--colour lightgreen",
            json!({"colour": "COLOUR_LIGHT_GREEN"}),
        ),
        ("--memory-bytes 2GiB", json!({"memoryBytes": "2147483648"})),
        ("--memory-bytes 7", json!({"memoryBytes": "7"})),
        (
            "--end-time 2026-02-03T04:05:06Z",
            json!({"endTime": "2026-02-03T04:05:06Z"}),
        ),
        ("--uptime 90s", json!({"uptime": "90s"})),
        ("--rolls", json!({"rolls": true})),
        ("--rolls --name x", json!({"rolls": true, "name": "x"})),
        ("--rolls=true", json!({"rolls": true})),
        ("--floats=false", json!({"floats": false})),
        ("--temperature -3", json!({"temperature": -3})),
        (
            "--distance=-9007199254740993",
            json!({"distance": "-9007199254740993"}),
        ),
        ("--legs 4294967295", json!({"legs": 4_294_967_295_u32})),
        ("--weight 1.5e3", json!({"weight": 1500.0})),
        ("--height -0.5", json!({"height": -0.5})),
        ("--blob aGk=", json!({"blob": "aGk="})),
        (
            "--blobs aGk= --blobs aQ==",
            json!({"blobs": ["aGk=", "aQ=="]}),
        ),
        ("--tags a --tags b,c", json!({"tags": ["a", "b,c"]})),
        ("--sizes 1 --sizes -2", json!({"sizes": [1, -2]})),
        (
            "--colours red --colours RED",
            json!({"colours": ["COLOUR_RED", "COLOUR_RED"]}),
        ),
        (
            "--labels a=b=c --labels d=",
            json!({"labels": {"a": "b=c", "d": ""}}),
        ),
        ("--counts a=1", json!({"counts": {"a": 1}})),
        (r#"--part {"name":"w"}"#, json!({"part": {"name": "w"}})),
        (
            r#"--parts {"name":"w"} --parts {"count":2}"#,
            json!({"parts": [{"name": "w"}, {"count": 2}]}),
        ),
        ("--wire blue", json!({"wire": "blue"})),
        ("--field-endpoint x", json!({"endpoint": "x"})),
        ("--endpoint x", json!({})),
        ("--widget-uuid w", json!({"widgetUuid": "w"})),
        ("--widget w", json!({"widgetUuid": "w"})),
        (
            "--friend a --friend-uuids b",
            json!({"friendUuids": ["a", "b"]}),
        ),
        // A flag of its own is nobody's alias.
        ("--friends a", json!({"friends": "a"})),
    ] {
        let args = words(&format!("create gadget {line}"));
        assert_eq!(request(&actions, &args).unwrap(), expected, "{line}");
    }
}

#[test]
fn a_wrong_flag_says_what_would_be_right() {
    let actions = Actions::of(catalog());
    for (line, parts) in [
        (
            "--colour blue",
            &["--colour <COLOUR>", "Red, LightGreen"][..],
        ),
        ("--colour unspecified", &["Red, LightGreen"]),
        (
            "--memory-bytes much",
            &["--memory-bytes <SIZE>", "looks like 2GiB"],
        ),
        ("--memory-bytes=-1", &["out of range"]),
        ("--end-time noon", &["looks like 2026-02-03T04:05:06Z"]),
        ("--uptime long", &["looks like 90s"]),
        ("--rolls=maybe", &["true or false"]),
        ("--temperature 3000000000", &["out of range"]),
        ("--legs x", &["not a number"]),
        ("--legs -1", &["out of range"]),
        ("--weight heavy", &["not a number"]),
        ("--blob ***", &["not base64"]),
        ("--labels a", &["KEY=VALUE"]),
        ("--counts a=b", &["not a number"]),
        (r#"--part {"nam":"w"}"#, &["acme.v1.Part", "nam"]),
        ("--part w", &["acme.v1.Part"]),
        (
            "--battery a --wire b",
            &["--battery", "cannot be used with"],
        ),
        ("--nam x", &["--nam", "'--name'"]),
        ("--name", &["--name <TEXT>", "value is required"]),
        ("--name @/nowhere/at/all", &["cannot read /nowhere/at/all"]),
        ("extra", &["unexpected argument 'extra'"]),
    ] {
        let problem = request(&actions, &words(&format!("create gadget {line}"))).unwrap_err();
        for part in parts {
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }
}

#[test]
fn a_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("request.pem");
    std::fs::write(&path, "two\nlines").unwrap();
    let actions = Actions::of(catalog());
    let (name, blob) = ("--name", "--blob");
    let file = format!("@{}", path.display());
    let args = ["create", "gadget", name, &file, blob, &file].map(str::to_owned);
    assert_eq!(
        request(&actions, &args).unwrap(),
        json!({"name": "two\nlines", "blob": "dHdvCmxpbmVz"})
    );
}

#[test]
fn what_a_call_is_about_comes_without_a_flag() {
    let actions = Actions::of(catalog());
    for (line, expected) in [
        ("get gadget g", json!({"uuid": "g"})),
        ("gadget get g", json!({"uuid": "g"})),
        ("zone update z --name x", json!({"uuid": "z", "name": "x"})),
        (
            "update zone --state disabled z",
            json!({"uuid": "z", "state": "RESOURCE_STATE_DISABLED"}),
        ),
        (
            "gadget attach-to-widget g --widget-uuid w",
            json!({"uuid": "g", "widgetUuid": "w"}),
        ),
    ] {
        assert_eq!(request(&actions, &words(line)).unwrap(), expected, "{line}");
    }
    let problem = request(&actions, &words("get gadget")).unwrap_err();
    assert!(problem.contains("<NAME|UUID>"), "{problem}");
    let problem = request(&actions, &words("show operation")).unwrap_err();
    assert!(problem.contains("<UUID>"), "{problem}");
}

#[test]
fn only_a_query_takes_the_words_of_queries() {
    let catalog = catalog();
    let flag = |message: &str, field: &str| {
        let message = catalog.pool().get_message_by_name(message).unwrap();
        super::name(&message.get_field_by_name(field).unwrap())
    };
    assert_eq!(flag("acme.v1.Part", "count"), "count");
    assert_eq!(flag("acme.v1.QueryGadgetRequest", "query"), "query");
    assert_eq!(
        flag("acme.v1.CreateGadgetRequest", "endpoint"),
        "field-endpoint"
    );
}
