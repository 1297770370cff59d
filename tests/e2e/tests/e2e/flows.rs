//! Every flow of the product dies, fails and is repeated at every point of every step, in both
//! directions. Which flows and steps there are, the node says; how to begin one, the descriptor of
//! its rpc: a new flow is covered without a line here, or the test names it.

use std::{collections::VecDeque, sync::Mutex, thread, time::Duration};

use cairn_e2e::{
    Cloud,
    flows::{Deed, Dump, Kind, Rule, Visit, World},
};
use cairn_operation::Point;
use cairn_proto::{call::Method, operation::v1alpha1::OperationState};
use tokio::runtime::{Builder, Runtime};

/// How long a test waits for a state.
const LIMIT: Duration = Duration::from_secs(30);
/// Clouds at once.
const WORKERS: usize = 3;

/// Steps whose effect cannot be undone: when they are the last one to fail, they fail before it.
const ENDS_BEFORE: [(&str, &str); 3] = [
    // The file is gone or not; another deletion ends it.
    ("delete-image", "delete-file"),
    ("expunge-image", "delete-file"),
    // It is Running again until its host says that it is not.
    ("stop-vm-instance", "stop-on-hypervisor"),
];

/// A flow that an rpc runs.
#[derive(Debug, Clone)]
struct Target {
    flow: String,
    method: &'static Method,
    steps: Vec<TargetStep>,
}

#[derive(Debug, Clone)]
struct TargetStep {
    path: String,
    undoable: bool,
    forward: bool,
}

impl Target {
    fn visit(&self, point: Point, step: &str, direction: &'static str) -> Visit {
        Visit {
            flow: self.flow.clone(),
            step: step.to_owned(),
            direction,
            point,
        }
    }

    /// Has the run turn back at the last step that can.
    fn turn(&self) -> Option<Rule> {
        let last = self.steps.iter().rev().find(|step| !step.forward)?;
        let at_end = ENDS_BEFORE.contains(&(&self.flow, &last.path));
        let point = if at_end {
            Point::AfterIntent
        } else {
            Point::AfterEffect
        };
        Some(Rule {
            at: self.visit(point, &last.path, "run"),
            deed: Deed::Fail,
        })
    }
}

/// What is done to a run, and how it must end.
#[derive(Debug, Clone)]
struct Case {
    rules: Vec<Rule>,
    crash: bool,
    /// It may have been forgotten that it was to turn.
    may_succeed: bool,
    must_succeed: bool,
}

/// How a cloud is when the flow has ended.
struct Ends {
    succeeded: Dump,
    /// As before, but for copies that may be gone.
    failed: Vec<Dump>,
}

/// The flows of the product that an rpc runs.
async fn targets() -> Vec<Target> {
    let cloud = Cloud::start().await;
    let flows = cloud.node().flows();
    let targets = flows.all().filter_map(|flow| {
        let steps = flow.steps().map(|step| TargetStep {
            path: step.path.to_owned(),
            undoable: step.options.rollback && !step.forward,
            forward: step.forward,
        });
        Some(Target {
            flow: flow.name().to_owned(),
            method: flows.run_by(flow.name())?,
            steps: steps.collect(),
        })
    });
    targets.collect()
}

/// A run to its end, and where it came by.
async fn run(
    world: &mut World,
    target: &Target,
    rules: Vec<Rule>,
) -> Result<(OperationState, Vec<Visit>), String> {
    world.script.write(rules);
    let accepted = world.call(target.method).await?;
    let ended = world.end(&accepted.operation).await;
    let visits = world.script.visits();
    if ended.state() == OperationState::Succeeded {
        return Ok((ended.state(), visits));
    }
    match ended.error_message() {
        "on purpose" => Ok((ended.state(), visits)),
        other => Err(other.to_owned()),
    }
}

/// The cases of a flow in a world in which all its steps run, and how it is there in the end.
async fn cases(world: &mut World, target: &Target) -> Result<(Vec<Case>, Ends), String> {
    let (state, visits) = run(world, target, vec![]).await?;
    assert_eq!(state, OperationState::Succeeded);
    let ran = |visits: &[Visit], step: &str, direction: &str| {
        let mut visits = visits.iter();
        visits.any(|visit| {
            visit.step == step && visit.direction == direction && visit.point == Point::AfterOutcome
        })
    };
    let missing: Vec<_> = target
        .steps
        .iter()
        .filter(|step| !ran(&visits, &step.path, "run"))
        .collect();
    if !missing.is_empty() {
        return Err(format!("these steps did not run: {missing:?}"));
    }
    let after = world.settled().await.relative_to(world.before());
    world.restore().await;
    let mut cases = Vec::new();
    let own = |visit: &&Visit| visit.flow == target.flow;
    for visit in visits.iter().filter(own) {
        cases.push(Case {
            rules: vec![Rule {
                at: visit.clone(),
                deed: Deed::Hold,
            }],
            crash: true,
            may_succeed: true,
            must_succeed: true,
        });
    }
    for step in &target.steps {
        for (point, deed) in [
            (Point::AfterIntent, Deed::Fail),
            (Point::AfterEffect, Deed::Fail),
            (Point::AfterEffect, Deed::Again),
        ] {
            if deed == Deed::Fail
                && point == Point::AfterEffect
                && ENDS_BEFORE.contains(&(&target.flow, &step.path))
            {
                continue;
            }
            let at = target.visit(point, &step.path, "run");
            let succeeds = deed == Deed::Again || step.forward;
            cases.push(Case {
                rules: vec![Rule { at, deed }],
                crash: false,
                may_succeed: succeeds,
                must_succeed: succeeds,
            });
        }
    }
    let mut ends = Ends {
        succeeded: after,
        failed: vec![world.before().clone()],
    };
    let Some(turn) = target.turn() else {
        return Ok((cases, ends));
    };
    let (state, visits) = run(world, target, vec![turn.clone()]).await?;
    assert_eq!(state, OperationState::Failed);
    let after = world.settled().await.relative_to(world.before());
    if !after.is_but_for_copies(world.before()) {
        let left = world.before().difference(&after);
        return Err(format!("rolled back, it leaves:\n{left}"));
    }
    if after != *world.before() {
        ends.failed.push(after);
        world.restore().await;
    }
    let mut undoable = target.steps.iter().filter(|step| step.undoable);
    if let Some(step) = undoable.find(|step| !ran(&visits, &step.path, "rollback")) {
        return Err(format!("step {} was not rolled back", step.path));
    }
    let last = turn.at.step.clone();
    for visit in visits
        .iter()
        .filter(own)
        .filter(|visit| visit.direction == "rollback")
    {
        // Before the turn is committed, nobody knows any more that it was to come.
        let forgotten = visit.step == last && visit.point == Point::BeforeIntent;
        cases.push(Case {
            rules: vec![
                turn.clone(),
                Rule {
                    at: visit.clone(),
                    deed: Deed::Hold,
                },
            ],
            crash: true,
            may_succeed: forgotten,
            must_succeed: forgotten,
        });
        if visit.point == Point::AfterEffect {
            for deed in [Deed::Fail, Deed::Again] {
                cases.push(Case {
                    rules: vec![
                        turn.clone(),
                        Rule {
                            at: visit.clone(),
                            deed,
                        },
                    ],
                    crash: false,
                    may_succeed: false,
                    must_succeed: false,
                });
            }
        }
    }
    Ok((cases, ends))
}

/// Runs a case; what is wrong with how it ended, if anything.
async fn check(world: &mut World, target: &Target, case: &Case, ends: &Ends) -> Result<(), String> {
    world.script.write(case.rules.clone());
    let accepted = world.call(target.method).await?;
    let operation = accepted.operation.clone();
    if case.crash {
        let held = tokio::time::timeout(LIMIT, world.script.held()).await;
        held.map_err(|_| "it did not come there".to_owned())?;
        drop(accepted);
        world.crash().await;
    }
    let ended = world.end(&operation).await;
    let open = world.script.open();
    if !case.crash && !open.is_empty() {
        return Err(format!("it did not come to {open:?}"));
    }
    let succeeded = ended.state() == OperationState::Succeeded;
    if (succeeded && !case.may_succeed) || (!succeeded && case.must_succeed) {
        return Err(format!(
            "it ended as {:?}: {}",
            ended.state(),
            ended.error_message()
        ));
    }
    let expected = match succeeded {
        true => vec![&ends.succeeded],
        false => ends.failed.iter().collect(),
    };
    if let Err(difference) = world.becomes(&expected).await {
        return Err(format!(
            "it ended as {:?}, with:\n{difference}",
            ended.state()
        ));
    }
    let doubled = world.doubled(&operation);
    if !doubled.is_empty() {
        return Err(format!("these took place twice: {doubled:?}"));
    }
    if succeeded || world.dump().await != *world.before() {
        world.restore().await;
    }
    Ok(())
}

/// Finds a world in which the flow runs, and runs all its cases there.
async fn cover(target: &Target) -> Vec<String> {
    let mut why = Vec::new();
    for kind in Kind::ALL {
        let mut world = World::new(kind).await;
        let (cases, ends) = match cases(&mut world, target).await {
            Ok(found) => found,
            Err(reason) => {
                why.push(format!("{kind:?}: {reason}"));
                continue;
            }
        };
        let mut problems = Vec::new();
        let began = std::time::Instant::now();
        for case in &cases {
            if let Err(problem) = check(&mut world, target, case, &ends).await {
                let rules = case.rules.iter().map(ToString::to_string);
                let rules: Vec<_> = rules.collect();
                let problem = format!("{}: {}: {problem}", target.flow, rules.join(", "));
                eprintln!("{problem}");
                problems.push(problem);
                world.restore().await;
            }
        }
        // How long the test is grows with these.
        let (flow, count) = (&target.flow, cases.len());
        println!(
            "{flow}: {count} cases in {kind:?} took {:?}",
            began.elapsed()
        );
        return problems;
    }
    vec![format!(
        "flow {} is covered nowhere; in which cloud does it run, and with which request? {}",
        target.flow,
        why.join("; ")
    )]
}

/// Covers one flow after another. Each has a runtime of its own: a cloud that ends holds up the
/// thread that it ends in.
fn work(queue: &Mutex<VecDeque<Target>>) -> Vec<String> {
    let next = || queue.lock().unwrap().pop_front();
    let mut problems = Vec::new();
    while let Some(target) = next() {
        problems.extend(runtime().block_on(cover(&target)));
    }
    problems
}

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_flow_ends_whatever_happens_at_any_point_of_any_step() {
    let targets = runtime().block_on(targets());
    assert!(!targets.is_empty());
    let queue = Mutex::new(VecDeque::from(targets));
    let problems: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&queue))).collect();
        let problems = workers.into_iter().map(|worker| worker.join().unwrap());
        problems.flatten().collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
