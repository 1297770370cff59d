//! The CLI against a node.

use cairn_cli::{Environment, Terminal, run};
use cairn_e2e::Cloud;

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command line in this process.
pub(crate) async fn cairn(cloud: &Cloud, line: &str) -> Ran {
    let arguments: Vec<_> = line.split_whitespace().collect();
    cairn_with(cloud, &arguments).await
}

async fn cairn_with(cloud: &Cloud, arguments: &[&str]) -> Ran {
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
    let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_works_with_names() {
    let cloud = Cloud::start().await;
    cloud.ready(1).await;
    let done = async |line: &str| {
        let ran = cairn(&cloud, line).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        ran.out
    };
    // Each by its only name, under the flags that people type.
    let create = "create vm-instance --name web --instance-offering it --image it --l3-network it";
    assert!(done(create).await.contains("Running"));
    let of_host = "query vm-instance host=host-0 zoneUuid=zone --fields name,state";
    assert!(done(of_host).await.contains("web   Running"));
    assert_eq!(
        done("query host vmInstances.zoneUuid=zone --count").await,
        "1\n"
    );
    let table = done("query vm-instance").await;
    assert!(
        table.contains("  host ") && table.contains("  host-0  "),
        "{table}"
    );
    done("stop vm-instance web --grace-secs 0").await;
    let stopped = done("get vm-instance web").await;
    assert!(stopped.contains("Stopped"), "{stopped}");
    let log = done("vm-instance console-log web --lines 1").await;
    assert_eq!(log, "simulated web: power off\n");

    let wrong = cairn(&cloud, "start vm-instance wbe").await;
    assert_eq!(wrong.code, 1);
    let expected =
        "error: NOT_FOUND\n  UUID: there is no vm-instance named `wbe`; did you mean `web`?\n";
    assert!(wrong.err.starts_with(expected), "{}", wrong.err);

    done("create zone --name zone").await;
    let ambiguous = cairn(&cloud, "delete zone zone").await;
    assert_eq!(ambiguous.code, 1);
    let expected = "UUID: 2 zones are named `zone`; give the uuid of one\n";
    assert!(ambiguous.err.contains(expected), "{}", ambiguous.err);
    assert_eq!(done("query zone --count").await, "2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operator_of_a_query_has_its_form() {
    let cloud = Cloud::start().await;
    for (name, description) in [("east", "a,b"), ("west", ""), ("it's = \"x\"", "%")] {
        let args = [
            "create",
            "zone",
            "--name",
            name,
            "--description",
            description,
        ];
        let ran = cairn_with(&cloud, &args).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    for (condition, count) in [
        ("name=east", 1),
        ("name!=east", 2),
        ("name>east", 2),
        ("name>=east", 3),
        ("name<west", 2),
        ("name<=west", 3),
        ("name?=east,west", 2),
        ("name!?=east,west", 1),
        ("createTime=null", 0),
        ("createTime!=null", 3),
        ("name~=%st", 2),
        ("name!~=%st", 1),
        // Whatever the shell left of the quotes is the value.
        ("name=it's = \"x\"", 1),
        ("description=a,b", 1),
        ("description?=a\\,b,%", 2),
        ("description=", 1),
        ("state=enabled", 3),
        ("createTime<2026-02-03T04:05:06Z", 0),
    ] {
        let ran = cairn_with(&cloud, &["query", "zone", condition, "--count"]).await;
        assert_eq!(ran.out, format!("{count}\n"), "{condition}: {}", ran.err);
    }
    let page = "query zone --sort name --desc --start 1 --limit 1 --fields name";
    let page = cairn(&cloud, page).await;
    assert!(page.out.contains("it's"), "{}", page.out);
    assert_eq!(
        page.err,
        "1 of 3 are shown; --start 2 shows what follows.\n"
    );
    let wrong = cairn(&cloud, "query zone name=east colour=red").await;
    assert!(
        wrong.err.contains("  colour=red: zone has no field"),
        "{}",
        wrong.err
    );
}
