//! Flows from files: what they come to, and how each mistake is told.

use std::fs;

use cairn_proto::compute::v1alpha1::ResourceState;

use super::*;
use crate::log::Place;

/// A step that does nothing.
struct Named {
    name: &'static str,
    needs: &'static [&'static str],
    provides: &'static [&'static str],
}

#[async_trait]
impl Step for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        self.needs
    }

    fn provides(&self) -> &'static [&'static str] {
        self.provides
    }

    async fn run(&self, _: &StepContext<'_>) -> Result<Outcome, Fault> {
        Ok(Outcome::none())
    }
}

struct Nothing;

#[async_trait]
impl Hook for Nothing {
    async fn write(&self, _: &mut cairn_store::Tx, _: &End<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

const CREATE: &str = "flow = 'create'
inputs = ['cairn.compute.v1alpha1.CreateZoneRequest']
steps = [
    'allocate',
    { step = 'bring', timeout_secs = 60, retry = { attempts = 3, first_ms = 1 }, weight = 7 },
    { group = 'devices', steps = ['disk', { step = 'nic', name = 'nics' }] },
    'start',
]
forward_after = 'bring'
done = ['nothing']
";

fn registry() -> Registry {
    let mut registry = Registry::default();
    let step = |name, needs, provides| Named {
        name,
        needs,
        provides,
    };
    registry
        .step(step("allocate", &[REQUEST], &[ZONE]))
        .step(step("bring", &[ZONE], &[]))
        .step(step("disk", &[ZONE], &[]))
        .step(step("nic", &[ZONE], &[]))
        .step(step("start", &[ZONE], &[]))
        .step(step("start-appliance", &[ZONE], &[]))
        .step(step("describe", &[], &[ZONE]))
        .hook("nothing", Nothing)
        .flow("create.toml", CREATE);
    registry
}

/// Lays files over the embedded flows.
fn resolve(files: &[(&str, &str)]) -> Result<Flows, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let resolved = registry().resolve(Some(directory.path()));
    resolved.map_err(|error| {
        let place = format!("{}/", directory.path().display());
        error.to_string().replace(&place, "")
    })
}

fn paths(flows: &Flows, flow: &str) -> Vec<String> {
    let flow = flows.get(flow).unwrap();
    flow.steps().map(|step| step.path.to_owned()).collect()
}

#[test]
fn a_file_says_which_steps_follow_each_other_and_how_they_are_tried() {
    let flows = resolve(&[]).unwrap();
    let names = ["allocate", "bring", "disk", "nics", "start"];
    assert_eq!(paths(&flows, "create"), names);
    let flow = flows.get("create").unwrap();
    let bring = flow.steps().nth(1).unwrap().options;
    assert_eq!(bring.timeout, Some(Duration::from_secs(60)));
    assert_eq!((bring.retry.attempts, bring.weight), (3, 7));
    assert_eq!(bring.retry.first, Duration::from_millis(1));
    let forward: Vec<_> = flow.steps().map(|step| step.forward).collect();
    assert_eq!(forward, [false, false, true, true, true]);
}

#[test]
fn an_appliance_is_a_virtual_machine_with_one_step_replaced() {
    let appliance = "flow = 'create-appliance'\nextends = 'create'\n\n[[change]]\n\
                     replace = 'start'\nwith = ['start-appliance']\n";
    let flows = resolve(&[("create-appliance.toml", appliance)]).unwrap();
    assert_eq!(
        paths(&flows, "create-appliance"),
        ["allocate", "bring", "disk", "nics", "start-appliance"]
    );
    assert_eq!(paths(&flows, "create")[4], "start");
}

#[test]
fn an_operators_file_changes_the_flow_of_its_name() {
    let create = "flow = 'create'\nextends = 'create'\n\n[[change]]\nafter = 'bring'\n\
                  insert = [{ step = 'disk', name = 'spare' }]\n\n[[change]]\nremove = 'nics'\n\n\
                  [[change]]\nbefore = 'allocate'\ninsert = [{ step = 'describe', name = 'first' }]\n\n\
                  [[change]]\nremove = 'allocate'\n";
    let flows = resolve(&[("create.toml", create)]).unwrap();
    let expected = ["first", "bring", "spare", "disk", "start"];
    assert_eq!(paths(&flows, "create"), expected);
    let whole = "flow = 'create'\nsteps = ['describe']\n";
    let flows = resolve(&[("create.toml", whole)]).unwrap();
    assert_eq!(paths(&flows, "create"), ["describe"]);
}

#[test]
fn a_flow_is_a_part_of_another() {
    let inner = "flow = 'inner'\nsteps = ['describe', 'bring']\n";
    let outer = "flow = 'outer'\nsteps = [{ flow = 'inner', name = 'one' }, 'start']\n";
    let changed = "flow = 'changed'\nextends = 'outer'\n\n[[change]]\nreplace = 'one/bring'\n\
                   with = ['disk', 'nic']\n";
    let flows = [
        ("inner.toml", inner),
        ("outer.toml", outer),
        ("changed.toml", changed),
    ];
    let flows = resolve(&flows).unwrap();
    assert_eq!(
        paths(&flows, "outer"),
        ["one/describe", "one/bring", "start"]
    );
    assert_eq!(
        paths(&flows, "changed"),
        ["one/describe", "one/disk", "one/nic", "start"]
    );
}

#[test]
fn a_mistake_is_told_with_file_line_flow_and_step() {
    let check = |text: &str, expected: &str| {
        let error = resolve(&[("x.toml", text)]).unwrap_err();
        let expected = format!("the flows do not fit together\n  x.toml:{expected}");
        assert_eq!(error, expected, "{text}");
    };
    check(
        "flow = 'x'\nsteps = ['describe',\n  'begin']",
        "3:3: flow x, step begin: no service has registered a step of that name",
    );
    check(
        "flow = 'x'\nsteps = ['describe',\n  'allocate']",
        "3:3: flow x, step allocate: needs cairn.compute.v1alpha1.CreateZoneRequest, which neither \
         an input nor a step before it provides",
    );
    check(
        "flow = 'x'\nsteps = ['describe', { step = 'describe', name = 'again' }]",
        "2:22: flow x, step again: provides cairn.compute.v1alpha1.Zone, which describe provides \
         too; one that changes a message needs it",
    );
    check(
        "flow = 'x'\nsteps = ['describe', 'bring', 'bring']",
        "2:31: flow x, step bring: another part has that name; give this one a `name`",
    );
    check(
        "flow = 'x'\nextends = 'crate'",
        "2:11: flow x: there is no flow `crate`; give one of: create, x",
    );
    check(
        "flow = 'x'\nextends = 'x'",
        "2:11: flow x: extends itself, and there is no such flow below it",
    );
    check(
        "flow = 'x'\nextends = 'create'\n[[change]]\nremove = 'nic'",
        "4:10: flow x, step nic: there is no such step in what it extends",
    );
    check(
        "flow = 'x'\nextends = 'create'\n[[change]]\nremove = 'allocate'",
        "1:8: flow x, step bring: needs cairn.compute.v1alpha1.Zone, which neither an input nor a \
         step before it provides (the step is in create.toml:5:5)",
    );
    check(
        "flow = 'x'\nsteps = ['describe']\nforward_after = 'bring'",
        "3:17: flow x, step bring: `forward_after` names `bring`, which is no part of it",
    );
    check(
        "flow = 'x'\nsteps = ['describe']\nfinally = ['note']",
        "3:12: flow x: no hook `note` is registered",
    );
    check(
        "flow = 'y'\nsteps = ['describe']",
        "1:8: flow y: is in a file that is named after `x`; give both one name",
    );
    check(
        "flow = 'x'\nsteps = [{ flow = 'create' }]",
        "2:10: flow x, step create: is a flow with a point of no return, which cannot be undone \
         with the rest",
    );
}

#[test]
fn a_key_that_is_none_is_told_with_its_place() {
    let check = |text: &str, parts: &[&str]| {
        let error = resolve(&[("x.toml", text)]).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    };
    let unknown = "flow = 'x'\nsteps = ['describe', { step = 'bring', timout_secs = 3 }]";
    check(
        unknown,
        &["x.toml:2:", "flow x", "timout_secs", "timeout_secs"],
    );
    check("flow = 'x'\nstep = ['bring']", &["x.toml:2:", "`step`"]);
    check(
        "flow = 'x'\nsteps = [3]",
        &["x.toml:2:", "the name of a step"],
    );
    check("flow = 'x'\nsteps = [", &["x.toml:2:"]);
    check("flow = 'x'", &["x.toml:1:8", "`flow` has no steps"]);
    check(
        "flow = 'x'\nextends = 'create'\n[[change]]\nreplace = 'bring'",
        &["x.toml:3:", "does not say what comes there"],
    );
    check(
        "flow = 'x'\nsteps = [{ group = 'g' }]",
        &["x.toml:2:10", "give a group its `steps`"],
    );
    check(
        "flow = 'x'\nsteps = [{ group = 'g', steps = [], step = 'bring' }]",
        &["give one of `step`, `group` and `flow`"],
    );
}

#[test]
fn flows_do_not_go_round_in_circles() {
    let a = "flow = 'a'\nextends = 'b'\n";
    let b = "flow = 'b'\nsteps = [{ flow = 'a', name = 'inner' }]\n";
    let error = resolve(&[("a.toml", a), ("b.toml", b)]).unwrap_err();
    assert!(
        error.contains("a.toml:2:11: flow a: is built on itself"),
        "{error}"
    );
    assert!(
        error.contains("b.toml:2:10: flow b: is built on itself"),
        "{error}"
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let files = [
        ("x.toml", "flow = 'x'\nsteps = ['begin']"),
        ("y.toml", "flow = 'y'\nsteps = ['end']"),
    ];
    let error = resolve(&files).unwrap_err();
    assert!(
        error.contains("step begin") && error.contains("step end"),
        "{error}"
    );
}

#[test]
fn a_name_is_registered_once() {
    let mut twice = registry();
    twice.step(Named {
        name: "bring",
        needs: &[],
        provides: &[],
    });
    twice.flow("create.toml", CREATE);
    let error = twice.resolve(None).unwrap_err().to_string();
    for part in [
        "step bring: step `bring` is registered twice",
        "create.toml:1:8: flow create: is declared in create.toml too",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_said() {
    let error = registry().resolve(Some("/nowhere/flows".as_ref()));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "read flows from /nowhere/flows");
}

#[test]
fn a_handler_gets_a_flow_that_fits_it() {
    let mut flows = resolve(&[]).unwrap();
    let flow = flows.of::<Create>("create", &[ZONE]).unwrap();
    assert_eq!(flow.name(), "create");
    assert_eq!(flows.run_by("create").unwrap().name, "CreateZone");
    let other = "cairn.compute.v1alpha1.Host";
    assert_eq!(
        flows
            .of::<Create>("create", &[other])
            .unwrap_err()
            .to_string(),
        "no step of flow create provides cairn.compute.v1alpha1.Host, of which \
         /cairn.compute.v1alpha1.ZoneService/CreateZone makes its result"
    );
    let error = flows.of::<Create>("destroy", &[]).unwrap_err();
    assert_eq!(error.to_string(), "there is no flow `destroy`");
    let host = "flow = 'h'\ninputs = ['cairn.compute.v1alpha1.Host']\nsteps = ['describe']";
    let mut flows = resolve(&[("h.toml", host)]).unwrap();
    let error = flows.of::<Create>("h", &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("flow h takes cairn.compute.v1alpha1.Host;"),
        "{error}"
    );
}

#[test]
fn a_step_is_left_out_by_a_field_of_a_message() {
    let zone = |name: &str, state: ResourceState| {
        let mut zone = Zone {
            name: name.to_owned(),
            ..Default::default()
        };
        zone.set_state(state);
        Bag::of(&zone)
    };
    use ResourceState::{Disabled, Enabled};
    for (condition, bag, runs) in [
        (
            "run_if = { field = 'state', is = 'Enabled' }",
            zone("a", Enabled),
            true,
        ),
        (
            "run_if = { field = 'state', is = 'Enabled' }",
            zone("a", Disabled),
            false,
        ),
        (
            "skip_if = { field = 'state', is = 'Enabled' }",
            zone("a", Enabled),
            false,
        ),
        (
            "skip_if = { field = 'state', is = 'Enabled' }",
            zone("a", Disabled),
            true,
        ),
        (
            "run_if = { field = 'name', is = 'a' }",
            zone("a", Enabled),
            true,
        ),
        (
            "run_if = { field = 'name', is = 'a' }",
            zone("b", Enabled),
            false,
        ),
        (
            "run_if = { field = 'name', set = true }",
            zone("", Enabled),
            false,
        ),
        (
            "run_if = { field = 'name', set = false }",
            zone("", Enabled),
            true,
        ),
        (
            "skip_if = { field = 'create_time.seconds', set = true }",
            zone("a", Enabled),
            true,
        ),
        (
            "run_if = { field = 'create_time.seconds', is = 7 }",
            zone("a", Enabled),
            false,
        ),
        // A message that is not there has nothing set.
        ("run_if = { field = 'name', set = false }", Bag::new(), true),
        ("run_if = { field = 'name', is = '' }", Bag::new(), false),
    ] {
        let flow = resolve(&[("on.toml", &conditional(condition))]).unwrap();
        let flow = flow.get("on").unwrap();
        let mut places = vec![Place::default(); 1];
        let skipped = flow.0.graph.leave_out(&mut places, &bag);
        assert_eq!(skipped.is_empty(), runs, "{condition}");
        assert!(flow.steps().all(|step| step.is_conditional));
    }
}

/// A flow of one step that has that condition, on a zone.
fn conditional(condition: &str) -> String {
    let on_zone = format!("{{ message = '{ZONE}', field");
    let condition = condition.replace("{ field", &on_zone);
    format!("flow = 'on'\ninputs = ['{ZONE}']\nsteps = [{{ step = 'bring', {condition} }}]\n")
}

#[test]
fn a_mistake_in_a_condition_is_told_with_its_place() {
    for (condition, expected) in [
        (
            "run_if = { field = 'nmae', is = 'a' }",
            "Zone has no field `nmae`; it has uuid, name,",
        ),
        (
            "run_if = { field = 'state', is = 'Enabeld' }",
            "`state` is one of Enabled, Disabled, and `is` is not",
        ),
        (
            "skip_if = { field = 'state', is = 1 }",
            "`state` is one of Enabled, Disabled, and `is` is not",
        ),
        (
            "skip_if = { field = 'name', is = true }",
            "`name` is a text, and `is` is not",
        ),
        (
            "run_if = { field = 'create_time.nanos', is = 5000000000 }",
            "`nanos` is smaller, or has no sign, and `is` is not",
        ),
        (
            "run_if = { field = 'name.length', set = true }",
            "`name.length` goes on after a field that is no message",
        ),
        (
            "run_if = { field = 'create_time', is = 'now' }",
            "`create_time` can only be `set` or not",
        ),
    ] {
        let wrong = resolve(&[("on.toml", &conditional(condition))]).unwrap_err();
        let place = "on.toml:3:";
        assert!(wrong.contains(place), "{wrong}");
        let told = format!("flow on, step bring: {expected}");
        assert!(wrong.contains(&told), "{told} is not in {wrong}");
    }
    for (condition, expected) in [
        (
            "run_if = { field = 'name' }",
            "does not say what the field is to be; give one of `is` and `set`",
        ),
        (
            "run_if = { field = 'name', set = true }, skip_if = { field = 'name', set = true }",
            "has two conditions; give one of `run_if` and `skip_if`",
        ),
    ] {
        let wrong = resolve(&[("on.toml", &conditional(condition))]).unwrap_err();
        assert!(wrong.contains(expected), "{expected} is not in {wrong}");
    }
    // What is tested is there, and what may be left out provides nothing for others.
    let nothing = "flow = 'on'\nsteps = [{ step = 'describe', run_if = { message = \
                   'cairn.compute.v1alpha1.Zone', field = 'name', set = true } }]\n";
    let wrong = resolve(&[("on.toml", nothing)]).unwrap_err();
    assert!(
        wrong.contains("step describe: needs cairn.compute.v1alpha1.Zone"),
        "{wrong}"
    );
    let needed = format!(
        "flow = 'on'\ninputs = ['{REQUEST}']\nsteps = [{{ step = 'allocate', run_if = {{ message = \
         '{REQUEST}', field = 'name', set = true }} }}, 'bring']\n"
    );
    let wrong = resolve(&[("on.toml", &needed)]).unwrap_err();
    assert!(
        wrong.contains("step bring: needs cairn.compute.v1alpha1.Zone"),
        "{wrong}"
    );
}
