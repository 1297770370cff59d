//! Names in place of uuids: what is looked up, and what is said of a name that is not one
//! resource's.

use cairn_types::ErrorCode;
use serde_json::{Value, json};
use tonic::Status;

use crate::{
    UUID, accepted, cairn, cairn_until,
    fake::{Fake, Step},
    result,
};

fn widgets(widgets: &[(&str, &str)]) -> Step {
    let item = |(uuid, name): &(&str, &str)| {
        json!({
            "@type": "type.googleapis.com/acme.v1.Widget",
            "uuid": uuid,
            "name": name,
            "createTime": "2026-02-03T04:05:06Z",
        })
    };
    let items: Vec<_> = widgets.iter().map(item).collect();
    Step::Send(json!({ "items": items }))
}

fn gadgets(gadgets: &[(&str, &str)]) -> Step {
    let row = |(uuid, name): &(&str, &str)| json!({"uuid": uuid, "name": name});
    let rows: Vec<_> = gadgets.iter().map(row).collect();
    Step::Send(json!({ "gadgets": rows }))
}

fn by_name(name: &str) -> Value {
    json!({
        "conditions": [{"field": "name", "operator": "OPERATOR_EQ", "values": [name]}],
        "limit": 11,
    })
}

#[tokio::test]
async fn each_name_of_a_call_becomes_its_uuid() {
    let fake = Fake::start().await;
    fake.script("QueryGadget", [gadgets(&[("g7", "drill")])])
        .script("Query", [widgets(&[("w7", "bench")])])
        .script("AttachGadgetToWidget", [accepted()]);
    let ran = cairn(
        &fake,
        "gadget attach-to-widget drill --widget bench --no-wait",
    )
    .await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let mut calls: Vec<_> = fake.calls().into_iter().map(|call| call.request).collect();
    assert_eq!(calls.pop(), Some(json!({"uuid": "g7", "widgetUuid": "w7"})));
    assert!(
        calls.contains(&json!({"query": by_name("drill")})),
        "{calls:?}"
    );
    assert!(calls.contains(&json!({"resource": "widget", "query": by_name("bench")})));
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_a_uuid_never() {
    let fake = Fake::start().await;
    fake.script("QueryGadget", [gadgets(&[("g7", "drill")])])
        .script("CreateGadget", [accepted(), result()]);
    let line =
        format!("create gadget --friend drill --friend {UUID} --friend drill --friends drill");
    let ran = cairn(&fake, &line).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let calls = fake.calls();
    let sent = json!({"friendUuids": ["g7", UUID, "g7"], "friends": "drill"});
    assert_eq!((calls.len(), &calls[1].request), (2, &sent));

    // What looks like a uuid is a name if it is said to be one.
    fake.script("QueryGadget", [gadgets(&[("g8", UUID)])])
        .script("GetGadget", [Step::Send(json!({"gadget": {"uuid": "g8"}}))]);
    let ran = cairn(&fake, &format!("get gadget name:{UUID}")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let calls = fake.calls();
    assert_eq!(calls[2].request, json!({"query": by_name(UUID)}));
    assert_eq!(calls[3].request, json!({"uuid": "g8"}));
}

#[tokio::test]
async fn names_are_looked_up_at_once() {
    let fake = Fake::start().await;
    fake.script("QueryGadget", [Step::Hang])
        .script("Query", [Step::Hang]);
    let line = "gadget attach-to-widget drill --widget bench";
    let ran = cairn_until(&fake, line, fake.called(2)).await;
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[tokio::test]
async fn conditions_on_references_take_names() {
    let fake = Fake::start().await;
    let conditions = |values: Value| {
        let operator = if values.as_array().unwrap().len() > 1 {
            "OPERATOR_NOT_IN"
        } else {
            "OPERATOR_EQ"
        };
        json!({"query": {"conditions": [{"field": "widgetUuid", "operator": operator, "values": values}]}})
    };
    fake.script("Query", [widgets(&[("w7", "bench")])])
        .script("QueryGadget", [gadgets(&[])]);
    assert_eq!(cairn(&fake, "query gadget widgetUuid=bench").await.code, 0);
    assert_eq!(fake.calls()[1].request, conditions(json!(["w7"])));

    fake.script("Query", [widgets(&[("w7", "bench")])])
        .script("QueryGadget", [gadgets(&[])]);
    let ran = cairn(&fake, &format!("query gadget widgetUuid!?={UUID},bench")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fake.calls()[3].request, conditions(json!([UUID, "w7"])));

    fake.script("Query", [widgets(&[("w7", "bench")])])
        .script("QueryGadget", [gadgets(&[])]);
    let line = "query gadget widget=bench --fields name,widget --sort widget";
    assert_eq!(cairn(&fake, line).await.code, 0);
    let mut short = conditions(json!(["w7"]));
    short["query"]["fields"] = json!(["name", "widgetUuid"]);
    short["query"]["sortBy"] = json!("widgetUuid");
    assert_eq!(fake.calls()[5].request, short);

    // A pattern is none, and neither is a name that is asked for as one.
    for line in [
        "query gadget widgetUuid~=ben%",
        "query gadget widget.name=bench",
    ] {
        let before = fake.calls().len();
        fake.script("QueryGadget", [gadgets(&[])]);
        assert_eq!(cairn(&fake, line).await.code, 0);
        assert_eq!(fake.calls().len(), before + 1, "{line}");
    }
}

#[tokio::test]
async fn a_name_of_several_is_refused_with_what_tells_them_apart() {
    let fake = Fake::start().await;
    fake.script("Query", [widgets(&[("w1", "bench"), ("w2", "bench")])]);
    let ran = cairn(&fake, "create gadget --widget bench").await;
    let expected = "\
error: INVALID_ARGUMENT
  --widget-uuid: 2 widgets are named `bench`; give the uuid of one
    uuid  createTime            weight
    ───────────────────────────────────
    w1    2026-02-03T04:05:06Z  0
    w2    2026-02-03T04:05:06Z  0
";
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with(expected), "{}", ran.err);
    assert_eq!(fake.calls().len(), 1, "nothing is created");

    let many: Vec<_> = (0..11).map(|n| format!("w{n}")).collect();
    let many: Vec<_> = many.iter().map(|uuid| (uuid.as_str(), "bench")).collect();
    fake.script("Query", [widgets(&many)]);
    let ran = cairn(&fake, "create gadget --widget bench").await;
    assert!(
        ran.err.contains("more than 10 widgets are named"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("w9") && !ran.err.contains("w10"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn names_that_nothing_has_are_told_together_with_near_ones() {
    let fake = Fake::start().await;
    fake.script("QueryGadget", [gadgets(&[])])
        .script("QueryGadget", [gadgets(&[("g1", "drill"), ("g2", "saw")])])
        .script("Query", [widgets(&[])])
        .script("Query", [widgets(&[])]);
    let ran = cairn(&fake, "gadget attach-to-widget dril --widget bench").await;
    let expected = "\
error: NOT_FOUND
  UUID: there is no gadget named `dril`; did you mean `drill`?
  --widget-uuid: there is no widget named `bench`; there are no widgets
";
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with(expected), "{}", ran.err);

    fake.script("Query", [widgets(&[])])
        .script("Query", [widgets(&[])]);
    let ran = cairn(&fake, "query gadget name=x widgetUuid=bench --json").await;
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["code"], ErrorCode::NotFound.as_str());
    assert_eq!(error["fields"][0]["flag"], "widgetUuid=bench");
    assert_eq!(error["fields"][0]["field"], "conditions[1].values");
}

#[tokio::test]
async fn operations_go_by_their_uuids_only() {
    let fake = Fake::start().await;
    fake.script("GetOperation", [Step::Fail(Status::not_found("no"))]);
    assert_eq!(cairn(&fake, "show operation CreateZone").await.code, 1);
    assert_eq!(fake.calls()[0].request, json!({"uuid": "CreateZone"}));
    assert_eq!(fake.calls().len(), 1);
}

#[tokio::test]
async fn a_lookup_that_fails_is_told() {
    let fake = Fake::start().await;
    fake.script(
        "QueryGadget",
        [Step::Fail(Status::permission_denied("not yours"))],
    );
    let ran = cairn(&fake, "get gadget drill").await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.starts_with("error: PERMISSION_DENIED: not yours"),
        "{ran:?}"
    );
}
