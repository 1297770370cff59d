//! Groups, and flows in flows: what runs at once, what is undone when, and what a crash changes.

use cairn_proto::operation::v1alpha1::{OperationStepKind, OperationStepState as State};
use cairn_testkit::{Database, on_both_databases, wait_until};

use super::{crash::*, *};

on_both_databases!(
    the_parts_of_a_group_run_at_once,
    when_one_of_a_group_fails_the_others_come_to_their_end,
    a_cancel_waits_for_all_of_a_group,
    a_finished_flow_is_rolled_back_whole,
    groups_and_flows_are_shown_as_a_tree,
    a_rollback_that_is_given_up_waits_for_the_others,
);

fn shape(tree: Tree) -> Shape {
    Shape {
        tree,
        ..Shape::default()
    }
}

/// The names in the log.
fn paths(tree: Tree) -> [&'static str; 4] {
    match tree {
        Tree::Line | Tree::Group => STEPS,
        Tree::Nested => ["allocate", "inner/prepare", "inner/attach", "record"],
        Tree::Both => ["allocate", "inner/prepare", "attach", "record"],
    }
}

async fn the_parts_of_a_group_run_at_once(database: Database) {
    let hold = Hold::at(Point::AfterIntent, "prepare", Direction::Run);
    let world = World::with(database, shape(Tree::Group), Some(hold.clone())).await;
    let (_, result) = world.call().await;
    hold.reached().await;
    let live = async || world.outside.live.lock().unwrap().clone();
    let attached = |live: &BTreeSet<_>| live.contains("attach");
    let live = wait_until("attach is done", live, attached, Duration::from_secs(30)).await;
    assert!(!live.contains("prepare"));
    hold.let_go();
    result.await.unwrap();
    world.assert_all_done().await;
}

async fn when_one_of_a_group_fails_the_others_come_to_their_end(database: Database) {
    for (failing, other) in [("prepare", "attach"), ("attach", "prepare")] {
        let hold = Hold::at(Point::AfterIntent, other, Direction::Run);
        let world = World::with(database, shape(Tree::Group), Some(hold.clone())).await;
        world.outside.fail(failing, Direction::Run, 1);
        let (_, result) = world.call().await;
        hold.reached().await;
        hold.let_go();
        let fault = result.await.unwrap_err();
        assert_eq!(fault.message, format!("{failing} fails in run"));
        let mut undone = fault.rolled_back.clone();
        assert_eq!(undone.pop().as_deref(), Some("allocate"));
        undone.sort();
        assert_eq!(undone, ["attach", "prepare"]);
        world.assert_nothing_left().await;
    }
}

async fn a_cancel_waits_for_all_of_a_group(database: Database) {
    let hold = Hold::at(Point::AfterIntent, "inner/prepare", Direction::Run);
    let world = World::with(database, shape(Tree::Both), Some(hold.clone())).await;
    let (uuid, result) = world.call().await;
    hold.reached().await;
    world.operations.cancel(uuid).await.unwrap();
    hold.let_go();
    let fault = result.await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Cancelled);
    assert_eq!(fault.rolled_back.len(), 3, "{:?}", fault.rolled_back);
    world.assert_nothing_left().await;
}

async fn a_finished_flow_is_rolled_back_whole(database: Database) {
    let world = World::with(database, shape(Tree::Nested), None).await;
    world.outside.fail("record", Direction::Run, 1);
    let fault = world.result().await.unwrap_err();
    let mut expected = paths(Tree::Nested);
    expected.reverse();
    assert_eq!(fault.rolled_back, expected);
    world.assert_nothing_left().await;
}

async fn groups_and_flows_are_shown_as_a_tree(database: Database) {
    let world = World::with(database, shape(Tree::Both), None).await;
    world.outside.fail("record", Direction::Run, 1);
    let (uuid, result) = world.call().await;
    result.await.unwrap_err();
    let shown = steps(&world.store, uuid).await.unwrap();
    let shown: Vec<_> = shown
        .iter()
        .map(|step| (step.depth, step.name.as_str(), step.kind(), step.state()))
        .collect();
    let expected = [
        (0, "allocate", OperationStepKind::Step),
        (0, "both", OperationStepKind::Group),
        (1, "inner", OperationStepKind::Flow),
        (2, "prepare", OperationStepKind::Step),
        (1, "attach", OperationStepKind::Step),
        (0, "record", OperationStepKind::Step),
    ];
    let expected = expected.map(|(depth, name, kind)| (depth, name, kind, State::RolledBack));
    assert_eq!(shown, expected);
}

async fn a_rollback_that_is_given_up_waits_for_the_others(database: Database) {
    let hold = Hold::at(Point::AfterIntent, "attach", Direction::Rollback);
    let world = World::with(database, shape(Tree::Group), Some(hold.clone())).await;
    world.outside.fail("record", Direction::Run, 1);
    world.outside.fail("prepare", Direction::Rollback, u32::MAX);
    let (uuid, result) = world.call().await;
    hold.reached().await;
    hold.let_go();
    let fault = result.await.unwrap_err();
    assert_eq!(
        fault.message,
        format!(
            "record fails in run; not rolled back: prepare, allocate; gc-job {uuid} goes on with it"
        )
    );
    assert_eq!(fault.rolled_back, ["record", "attach"]);
    assert_eq!(fault.causes, ["prepare fails in rollback"]);
}

/// Each point of each step, in both directions. On one database: what differs between the two is
/// under the log, not in what the log means.
#[tokio::test]
async fn a_crash_in_any_shape_changes_only_when() {
    for tree in [Tree::Group, Tree::Nested, Tree::Both] {
        for (step, point) in paths(tree).into_iter().flat_map(|s| POINTS.map(|p| (s, p))) {
            let at = (point, step, Direction::Run);
            let (world, result) = crash_in(Database::Sqlite, shape(tree), at, |_| {}).await;
            assert_eq!(result.unwrap().name, "east", "{tree:?} {point:?} {step}");
            world.assert_all_done().await;

            let fail = |outside: &Outside| outside.fail("record", Direction::Run, 1);
            let at = (point, step, Direction::Rollback);
            let (world, result) = crash_in(Database::Sqlite, shape(tree), at, fail).await;
            // Before the turn was committed, nobody knows any more that the step had failed.
            if (point, step) == (Point::BeforeIntent, "record") {
                result.unwrap();
                world.assert_all_done().await;
                continue;
            }
            let mut undone = result.unwrap_err().rolled_back;
            undone.sort();
            let mut expected = paths(tree);
            expected.sort_unstable();
            assert_eq!(undone, expected, "{tree:?} {point:?} {step}");
            world.assert_nothing_left().await;
        }
    }
}

#[test]
fn what_a_group_provides_and_needs_is_checked() {
    let toy = |name: &'static str| Toy {
        name,
        outside: Arc::default(),
    };
    let check = |parts: Vec<Part>, expected: &str| {
        let flow = parts.into_iter().fold(Flow::builder("f"), Builder::step);
        assert_eq!(flow.build(&[REQUEST]).unwrap_err().to_string(), expected);
    };
    let both = [Part::from(toy("allocate")), Part::from(toy("record"))];
    check(
        vec![Part::group("g", both)],
        "flow f: step `record` needs cairn.compute.v1alpha1.Zone, which neither an input nor a step \
         before it provides",
    );
    let twice = [
        Part::from(toy("allocate")),
        Part::from(toy("allocate")).named("again"),
    ];
    check(
        vec![Part::group("g", twice)],
        "flow f: step `again` provides cairn.compute.v1alpha1.Zone, which allocate provides too; \
         one that changes a message needs it",
    );
    check(vec![Part::group("g", [])], "flow f: `g` has no steps");
    let inside = Part::group("g", [Part::from(toy("allocate"))]);
    check(
        vec![inside, Part::from(toy("record")).named("allocate")],
        "flow f has two parts `allocate`; give one another name",
    );
    let inner = Flow::builder("inner").step(toy("allocate"));
    let inner = inner.forward_after("allocate").unwrap();
    check(
        vec![Part::flow("i", &inner.build(&[REQUEST]).unwrap())],
        "flow f: `i` has a point of no return, so it cannot be undone with the rest; name that point \
         in f itself",
    );
}
