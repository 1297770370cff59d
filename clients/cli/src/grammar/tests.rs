//! Command lines and what they ask for.

use serde_json::{Value, json};

use super::*;
use crate::testing::{catalog, words};

#[test]
fn where_to_ask_is_known_before_what_to_ask() {
    for (line, credential, endpoint, json, help) in [
        ("", None, None, false, true),
        ("create zone --json", None, None, true, false),
        (
            "create zone --credential a --endpoint=b",
            Some("a"),
            Some("b"),
            false,
            false,
        ),
        ("--credential=a zone get z", Some("a"), None, false, false),
        ("zone --help", None, None, false, true),
        ("help zone", None, None, false, true),
        ("get zone -- --json", None, None, false, false),
    ] {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let expected = Early {
            credential: credential.map(str::to_owned),
            endpoint: endpoint.map(str::to_owned),
            json,
            help,
        };
        assert_eq!(Early::read(&args), expected, "{line}");
    }
}

#[test]
fn a_query_says_what_to_look_for() {
    let actions = Actions::of(catalog());
    let query = |line: &str| -> Value {
        let Ok(Asked::Call(call)) = read(&actions, &words(line)) else {
            panic!("{line} is no call");
        };
        serde_json::to_value(&call.request).unwrap()
    };
    assert_eq!(query("query host"), json!({"query": {}}));
    assert_eq!(
        query(
            "query host name=web clusterUuid!=null --fields name,state --fields uuid \
             --sort name --desc --limit 10 --start 5 --with-count"
        ),
        json!({"query": {
            "conditions": [
                {"field": "name", "operator": "OPERATOR_EQ", "values": ["web"]},
                {"field": "clusterUuid", "operator": "OPERATOR_IS_NOT_NULL"},
            ],
            "fields": ["name", "state", "uuid"],
            "sortBy": "name",
            "sortDirection": "SORT_DIRECTION_DESC",
            "limit": 10,
            "start": "5",
            "replyWithCount": true,
        }})
    );
    assert_eq!(
        query("widget query weight>2 --count"),
        json!({"resource": "widget", "query": {
            "conditions": [{"field": "weight", "operator": "OPERATOR_GT", "values": ["2"]}],
            "count": true,
        }})
    );
}

#[test]
fn a_wrong_word_gets_the_nearest_one() {
    let actions = Actions::of(catalog());
    for (line, part) in [
        ("create zoen", "'zone'"),
        ("zoen create", "'zone'"),
        ("zone crate", "'create'"),
        ("operation get o", "subcommand"),
        ("query host name", "comes one of"),
        ("query zone --limit many", "--limit <NUMBER>"),
        ("get zone z --no-wait", "--no-wait"),
    ] {
        let Err(error) = read(&actions, &words(line)) else {
            panic!("{line} is understood");
        };
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn the_whole_command_line_is_well_formed() {
    command(&Actions::of(catalog())).debug_assert();
}

fn help(line: &str) -> String {
    match read(&Actions::of(catalog()), &words(line)) {
        Err(error) if !error.use_stderr() => error.to_string(),
        _ => panic!("{line} gives no help"),
    }
}

#[test]
fn help_lists_what_there_is() {
    let root = help("--help");
    let lines: Vec<_> = root
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "gadget attach-to-widget, create, get, log, query",
        "widget query",
        "zone create, delete, get, query, update",
        "--idempotency-key <KEY> A change repeated with the same key within a day takes place once.",
    ] {
        assert!(lines.iter().any(|l| l == line), "no {line:?} in\n{root}");
    }
    let (_, verbs) = root.split_once("Verbs:\n").unwrap();
    assert!(verbs.contains("attach-to-widget, "), "{root}");
    let noun = help("gadget --help");
    assert!(noun.contains("A thing that does something."), "{noun}");
    assert!(noun.contains("Creates a gadget."), "{noun}");
    let verb = help("query --help");
    assert!(verb.contains("widget"), "{verb}");
    let leaf = help("create gadget --help");
    for part in [
        "Creates a gadget. It takes its time.",
        "--memory-bytes <SIZE>",
        "How much it remembers.",
        "Like leaves in May.",
        "--widget-uuid <NAME|UUID>",
        "[alias: --widget]",
        "name:TEXT is always a name",
        "--no-wait",
    ] {
        assert!(leaf.contains(part), "no {part:?} in\n{leaf}");
    }
    assert!(help("query gadget --help").contains("cluster.zone.name=east"));
}

#[test]
fn a_noun_may_be_a_command_by_itself() {
    let actions = Actions::of(catalog());
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (line, expected) in [
        ("doctor", json!({})),
        (&*format!("doctor --host {uuid}"), json!({"hostUuid": uuid})),
    ] {
        let Ok(Asked::Call(call)) = read(&actions, &words(line)) else {
            panic!("{line} is no call");
        };
        assert_eq!(call.action.method.name(), "Examine");
        assert_eq!(serde_json::to_value(&call.request).unwrap(), expected);
    }
    let fixes = |line: &str| match read(&actions, &words(line)) {
        Ok(Asked::Call(call)) => call.fix,
        _ => panic!("{line} is no call"),
    };
    assert!(fixes("doctor --fix") && !fixes("doctor") && !fixes("zone query"));
    for wrong in [
        "doctor examine",
        "examine doctor",
        "doctor fix-finding",
        "zone query --fix",
    ] {
        assert!(read(&actions, &words(wrong)).is_err(), "{wrong}");
    }
    assert!(help("doctor --help").contains("It changes nothing."));
    let root = help("--help");
    assert!(root.lines().any(|line| line.trim() == "doctor"), "{root}");
}
