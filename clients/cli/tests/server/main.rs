//! The whole command against a server: what is sent, what is printed, and what happens when the
//! connection does not last.

#![expect(
    clippy::unwrap_used,
    reason = "in a test what cannot be unwrapped is a failure"
)]

mod completion;
mod fake;
mod log;
mod names;
mod uploads;

use std::future::{Future, pending};

use cairn_cli::{Environment, Terminal, run};
use cairn_proto::fault::Fault;
use cairn_types::ErrorCode;
use fake::{Fake, Step};
use serde_json::{Value, json};
use tonic::Status;

const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

async fn cairn(fake: &Fake, line: &str) -> Ran {
    cairn_until(fake, line, pending()).await
}

async fn cairn_until(fake: &Fake, line: &str, interrupt: impl Future<Output = ()>) -> Ran {
    let environment = Environment {
        credential: Some(fake.credential.clone()),
        places: Vec::new(),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        progress: false,
    };
    let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
    let code = run(&args, &environment, &mut terminal, interrupt).await;
    Ran {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

fn accepted() -> Step {
    Step::Send(json!({"accepted": {"operationUuid": "o1", "resourceUuid": "g1"}}))
}

fn progress() -> Step {
    Step::Send(json!({"progress": {"message": "drill holes", "percent": 40}}))
}

fn result() -> Step {
    Step::Send(json!({"result": {"uuid": "g1", "name": "drill", "colour": "COLOUR_RED"}}))
}

#[tokio::test]
async fn a_plugins_resource_is_created() {
    let fake = Fake::start().await;
    fake.script("CreateGadget", [accepted(), progress(), result()]);
    let ran = cairn(&fake, "create gadget --name drill --colour red").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("uuid               g1\n"), "{ran:?}");
    let calls = fake.calls();
    assert_eq!(
        calls[0].request,
        json!({"name": "drill", "colour": "COLOUR_RED"})
    );
    assert_eq!(calls[0].authorization.as_deref(), Some("Bearer t0k"));
    assert!(calls[0].key.as_ref().is_some_and(|key| key.len() == 36));

    fake.script("CreateGadget", [accepted(), progress(), result()]);
    let ran = cairn(&fake, "gadget create --json --idempotency-key mine").await;
    assert_eq!(ran.json()["colour"], "COLOUR_RED");
    assert_eq!(fake.calls()[1].key.as_deref(), Some("mine"));
}

#[tokio::test]
async fn an_accepted_operation_need_not_be_waited_for() {
    let fake = Fake::start().await;
    for (line, out) in [
        ("create gadget --no-wait", "o1\n"),
        (
            "create gadget --no-wait --json",
            "{\n  \"operationUuid\": \"o1\",\n  \"resourceUuid\": \"g1\"\n}\n",
        ),
    ] {
        fake.script("CreateGadget", [accepted(), Step::Hang]);
        let ran = cairn(&fake, line).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{ran:?}");
    }
}

#[tokio::test]
async fn a_cut_call_is_repeated_with_its_key() {
    let fake = Fake::start().await;
    fake.script("CreateGadget", [Step::Cut])
        .script("CreateGadget", [accepted(), progress(), Step::Cut])
        .script(
            "CreateGadget",
            [Step::Fail(Status::unavailable("restarting"))],
        )
        .script("CreateGadget", [accepted(), result()]);
    let ran = cairn(&fake, "create gadget --name drill --json").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.json()["uuid"], "g1");
    let calls = fake.calls();
    assert_eq!(calls.len(), 4);
    assert!(
        calls
            .iter()
            .all(|c| c.key.is_some() && c.key == calls[0].key)
    );
    assert!(calls.iter().all(|c| c.request == calls[0].request));
}

#[tokio::test]
async fn a_failure_is_told_and_not_repeated() {
    let fake = Fake::start().await;
    let fault = Fault {
        rolled_back: vec!["insert".to_owned()],
        ..Fault::field("memory_bytes", "is too little; at least 1GiB")
    };
    let full = Fault::new(ErrorCode::Unavailable, "no host can be reached");
    for (fault, line, parts) in [
        (
            fault.clone(),
            "create gadget",
            &[
                "error: INVALID_ARGUMENT\n",
                "  --memory-bytes: is too little; at least 1GiB\n",
                "  rolled back: insert\n",
                "  operation: o1\n",
            ][..],
        ),
        (
            fault,
            "create gadget --json",
            &["\"flag\": \"--memory-bytes\""],
        ),
        (
            full,
            "create gadget",
            &["error: UNAVAILABLE: no host can be reached"],
        ),
    ] {
        fake.script("CreateGadget", [accepted(), Step::Fail(fault.into())]);
        let ran = cairn(&fake, line).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
        for part in parts {
            assert!(ran.err.contains(part), "no {part:?} in {ran:?}");
        }
        if line.ends_with("--json") {
            let error: Value = serde_json::from_str(&ran.err).unwrap();
            assert_eq!(error["operation"], "o1");
        }
    }
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn an_interrupted_wait_says_that_the_operation_goes_on() {
    let fake = Fake::start().await;
    // The second call shows that the first one's answer was read.
    fake.script(
        "CreateGadget",
        [accepted(), Step::Fail(Status::unavailable("x"))],
    )
    .script("CreateGadget", [Step::Hang]);
    let ran = cairn_until(&fake, "create gadget", fake.called(2)).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("`cairn operation watch o1`"), "{ran:?}");

    fake.script("CreateGadget", [Step::Hang]);
    let line = "create gadget --idempotency-key mine";
    let ran = cairn_until(&fake, line, fake.called(3)).await;
    assert!(ran.err.contains("`--idempotency-key mine`"), "{ran:?}");
}

#[tokio::test]
async fn a_resource_is_shown() {
    let fake = Fake::start().await;
    let answer = json!({
        "gadget": {"uuid": "g1", "memoryBytes": "2147483648", "pin": "1234"},
        "parts": [{"name": "wheel", "count": 4}],
        "asked": "7",
    });
    fake.script("GetGadget", [Step::Send(answer.clone())])
        .script("GetGadget", [Step::Send(answer.clone())]);
    let ran = cairn(&fake, &format!("get gadget {UUID}")).await;
    for part in ["memoryBytes        2GiB\n", "wheel  4\n", "asked  7\n"] {
        assert!(ran.out.contains(part), "no {part:?} in\n{}", ran.out);
    }
    assert!(!ran.out.contains("1234"));
    assert_eq!(fake.calls()[0].request, json!({"uuid": UUID}));
    assert_eq!(fake.calls()[0].key, None);
    assert_eq!(
        cairn(&fake, &format!("gadget get {UUID} --json"))
            .await
            .json(),
        answer
    );
}

#[tokio::test]
async fn rows_are_found() {
    let fake = Fake::start().await;
    let rows = json!({"gadgets": [{"uuid": "g1", "name": "drill"}], "total": "17"});
    for (line, answer, out) in [
        (
            "query gadget --fields uuid,name --with-count",
            rows,
            "uuid  name\n────────────\ng1    drill\n\n17 in all\n",
        ),
        ("query gadget --count", json!({"total": "17"}), "17\n"),
        ("query gadget name=none", json!({}), "no gadgets\n"),
    ] {
        fake.script("QueryGadget", [Step::Send(answer)]);
        let ran = cairn(&fake, line).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{ran:?}");
    }
    assert_eq!(fake.calls()[1].request, json!({"query": {"count": true}}));
}

#[tokio::test]
async fn a_table_has_the_names_of_what_its_rows_refer_to() {
    let fake = Fake::start().await;
    let widget = |uuid: &str, name: &str| json!({"@type": "type.googleapis.com/acme.v1.Widget", "uuid": uuid, "name": name});
    let item = |uuid: &str, widget: &str| {
        json!({
            "@type": "type.googleapis.com/acme.v1.Mount",
            "uuid": uuid,
            "name": "m",
            "widgetUuid": widget,
        })
    };
    let mounts = json!({"items": [item("m1", "w1"), item("m2", "w2"), item("m3", "w1")]});
    let widgets = json!({"items": [widget("w1", "bench")]});
    fake.script("Query", [Step::Send(mounts.clone())])
        .script("Query", [Step::Send(widgets)]);
    let ran = cairn(&fake, "query mount").await;
    let table = "\
uuid  name  widget
───────────────────
m1    m     bench
m2    m     w2
m3    m     bench
";
    assert_eq!((ran.code, ran.out.as_str()), (0, table), "{ran:?}");
    let query = &fake.calls()[1].request["query"];
    let condition = json!({"field": "uuid", "operator": "OPERATOR_IN", "values": ["w1", "w2"]});
    assert_eq!(query["conditions"], json!([condition]));

    // A lookup that fails is no failure.
    fake.script("Query", [Step::Send(mounts.clone())])
        .script("Query", [Step::Fail(Status::unavailable("x"))]);
    let ran = cairn(&fake, "query mount").await;
    assert!(ran.out.contains("m1    m     w1\n"), "{ran:?}");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));

    // What is asked for by name of its field is that field, and JSON is the answer.
    for line in ["query mount --fields uuid,widgetUuid", "query mount --json"] {
        let before = fake.calls().len();
        fake.script("Query", [Step::Send(mounts.clone())]);
        let ran = cairn(&fake, line).await;
        assert!(
            ran.out.contains("widgetUuid") && ran.out.contains("w1"),
            "{ran:?}"
        );
        assert_eq!(fake.calls().len(), before + 1);
    }
}

#[tokio::test]
async fn what_a_limit_cut_off_is_said() {
    let fake = Fake::start().await;
    let rows = json!({"gadgets": [{"uuid": "g1"}, {"uuid": "g2"}]});
    let more = "2 of 7 are shown; --start 5 shows what follows.\n";
    for (line, counted, err) in [
        ("query gadget --limit 2 --start 3", Some("7"), more),
        ("query gadget --limit 2 --start 5", Some("7"), ""),
        // A page that is not full is the last.
        ("query gadget --limit 3", None, ""),
        ("query gadget --limit 2 --json", None, ""),
    ] {
        let before = fake.calls().len();
        fake.script("QueryGadget", [Step::Send(rows.clone())]);
        if let Some(total) = counted {
            fake.script("QueryGadget", [Step::Send(json!({"total": total}))]);
        }
        let ran = cairn(&fake, line).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, err), "{line}: {ran:?}");
        let asked = fake.calls().len() - before;
        assert_eq!(asked, 1 + usize::from(counted.is_some()), "{line}");
    }
    assert_eq!(fake.calls()[1].request, json!({"query": {"count": true}}));
}

#[tokio::test]
async fn a_wrong_query_is_told_in_the_words_of_its_command_line() {
    let fake = Fake::start().await;
    let fault = Fault::fields(vec![
        (
            "conditions[1].field".to_owned(),
            "there is no such field".to_owned(),
        ),
        ("fields[0]".to_owned(), "is odd".to_owned()),
        ("sort_by".to_owned(), "is odd".to_owned()),
    ]);
    fake.script("QueryGadget", [Step::Fail(fault.into())]);
    let ran = cairn(&fake, "query gadget name=a hue~=b% --fields x --sort y").await;
    for line in [
        "  hue~=b%: there is no such field\n",
        "  --fields: is odd\n",
        "  --sort: is odd\n",
    ] {
        assert!(ran.err.contains(line), "no {line:?} in {}", ran.err);
    }
}

#[tokio::test]
async fn a_resource_without_a_service_is_queried_all_the_same() {
    let fake = Fake::start().await;
    let item = json!({"@type": "type.googleapis.com/acme.v1.Widget", "uuid": "w1", "weight": 2.5});
    let answer = json!({"items": [item]});
    fake.script("Query", [Step::Send(answer.clone())])
        .script("Query", [Step::Send(answer.clone())]);
    let ran = cairn(&fake, "query widget weight>2").await;
    let table = "uuid  name  weight\n───────────────────\nw1    -     2.5\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, table), "{ran:?}");
    let request = &fake.calls()[0].request;
    assert_eq!(request["resource"], "widget");
    assert_eq!(request["query"]["conditions"][0]["values"], json!(["2"]));
    assert_eq!(cairn(&fake, "widget query --json").await.json(), answer);
}

#[tokio::test]
async fn a_watch_goes_on_after_the_last_event_seen() {
    let fake = Fake::start().await;
    let event = |number: u64, what: Value| {
        let mut event = what;
        event["number"] = json!(number.to_string());
        Step::Send(json!({"event": event}))
    };
    let ended = json!({"ended": {
        "uuid": "o1",
        "state": "OPERATION_STATE_FAILED",
        "errorCode": "OUT_OF_CAPACITY",
        "errorMessage": "no host has 2GiB left",
    }});
    let one = json!({"accepted": {"operationUuid": "o1"}});
    let two = json!({"progress": {"message": "allocate host", "percent": 20}});
    fake.script(
        "WatchOperation",
        [
            event(1, one),
            event(2, two),
            Step::Fail(Status::unavailable("restarting")),
        ],
    )
    .script("WatchOperation", [event(3, ended)]);
    let ran = cairn(&fake, "operation watch o1").await;
    let out = "accepted o1\n 20 % allocate host\nuuid               o1\n";
    assert!(ran.out.starts_with(out), "{ran:?}");
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .starts_with("error: OUT_OF_CAPACITY: no host has 2GiB left\n"),
        "{ran:?}"
    );
    let requests: Vec<_> = fake.calls().into_iter().map(|call| call.request).collect();
    assert_eq!(
        requests,
        [json!({"uuid": "o1"}), json!({"uuid": "o1", "after": "2"})]
    );

    let done = json!({"ended": {"uuid": "o1", "state": "OPERATION_STATE_SUCCEEDED"}});
    fake.script("WatchOperation", [event(9, done)]);
    let ran = cairn(&fake, "watch operation o1 --json").await;
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(
        (ran.code, ran.json()["event"]["number"].clone()),
        (0, json!("9"))
    );
}

#[tokio::test]
async fn help_tells_of_plugins() {
    let fake = Fake::start().await;
    let ran = cairn(&fake, "gadget --help").await;
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("A thing that does something."), "{ran:?}");
    let ran = cairn(&fake, "resources widget").await;
    assert!(ran.out.contains("In kilograms."), "{ran:?}");
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn the_version_is_said() {
    let fake = Fake::start().await;
    let said = cairn(&fake, "--version").await.out;
    assert!(said.starts_with("cairn "), "{said}");
    assert_eq!(cairn(&fake, "version").await.out, said);
}

#[tokio::test]
async fn without_reflection_the_built_in_resources_are_known() {
    let fake = Fake::with_reflection(false).await;
    fake.script("GetZone", [Step::Send(json!({"zone": {"uuid": "z"}}))]);
    assert_eq!(cairn(&fake, &format!("get zone {UUID}")).await.code, 0);
    let ran = cairn(&fake, "get gadget g").await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("unrecognized subcommand 'gadget'"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_server_that_cannot_be_called_is_named() {
    let fake = Fake::start().await;
    let other = Fake::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("https://{}", free.local_addr().unwrap());
    drop(free);
    for (endpoint, code, part) in [
        (nowhere.as_str(), 1, "cannot be reached"),
        (&other.endpoint, 1, "cannot be reached"),
        ("http://127.0.0.1:1", 2, "does not begin with https://"),
    ] {
        let ran = cairn(&fake, &format!("get zone z --endpoint {endpoint}")).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(
            ran.err.contains(part) && ran.err.contains(endpoint),
            "{ran:?}"
        );
        let ran = cairn(&fake, &format!("get widget w --endpoint {endpoint}")).await;
        assert_eq!(ran.code, 2);
        assert!(
            ran.err.contains("Only the built-in resources are known"),
            "{ran:?}"
        );
        let ran = cairn(&fake, &format!("zone --help --endpoint {endpoint}")).await;
        assert_eq!(ran.code, 0);
    }
}
