//! The CLI against a node.

use cairn_cli::{Environment, Terminal, run};
use cairn_e2e::Cloud;

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn cairn(cloud: &Cloud, line: &str) -> Ran {
    let environment = Environment {
        credential: Some(cloud.credential_file()),
        places: Vec::new(),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        progress: false,
    };
    let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let code = run(
        &arguments,
        &environment,
        &mut terminal,
        std::future::pending(),
    )
    .await;
    Ran {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_makes_finds_changes_and_deletes_a_zone() {
    let cloud = Cloud::start().await;
    let created = cairn(&cloud, "create zone --name east --json").await;
    assert_eq!(created.code, 0, "{}", created.err);
    let zone: serde_json::Value = serde_json::from_str(&created.out).unwrap();
    let uuid = zone["uuid"].as_str().unwrap();

    let found = cairn(
        &cloud,
        "query zone name~=ea% state=enabled --fields name,state",
    )
    .await;
    assert!(
        found.out.contains("east") && found.out.contains("Enabled"),
        "{}",
        found.out
    );
    let none = cairn(&cloud, "query zone name=west --count").await;
    assert!(none.out.contains('0'), "{}", none.out);

    let line = format!("zone update {uuid} --state disabled --json");
    let updated = cairn(&cloud, &line).await;
    assert!(
        updated.out.contains("RESOURCE_STATE_DISABLED"),
        "{}{}",
        updated.out,
        updated.err
    );

    let operations = cairn(&cloud, "query operation name=UpdateZone --json").await;
    let operations: serde_json::Value = serde_json::from_str(&operations.out).unwrap();
    let operation = operations["operations"][0]["uuid"].as_str().unwrap();
    let shown = cairn(&cloud, &format!("operation show {operation}")).await;
    assert!(shown.out.contains("Succeeded"), "{}", shown.out);
    let watched = cairn(&cloud, &format!("operation watch {operation}")).await;
    assert_eq!(watched.code, 0, "{}", watched.err);

    let deleted = cairn(&cloud, &format!("delete zone {uuid}")).await;
    assert_eq!(deleted.code, 0, "{}", deleted.err);
    let gone = cairn(&cloud, &format!("get zone {uuid}")).await;
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("NOT_FOUND"), "{}", gone.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_makes_one_zone() {
    let cloud = Cloud::start().await;
    let line = "create zone --name east --idempotency-key k --json";
    let (first, second) = (cairn(&cloud, line).await, cairn(&cloud, line).await);
    assert_eq!((first.code, &first.out), (0, &second.out), "{}", second.err);
    let other = cairn(&cloud, "create zone --name west --idempotency-key k").await;
    assert!(
        other.err.contains("IDEMPOTENCY_KEY_REUSED"),
        "{}",
        other.err
    );
    let all = cairn(&cloud, "query zone --json").await;
    let all: serde_json::Value = serde_json::from_str(&all.out).unwrap();
    assert_eq!(all["zones"].as_array().unwrap().len(), 1);
}
