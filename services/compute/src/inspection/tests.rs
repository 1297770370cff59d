//! The comparisons, on cases.

use cairn_agent_protocol::VmProcess;
use cairn_proto::doctor::v1alpha1::Problem;
use cairn_types::Uuid;

use super::*;

const HERE: &str = "here";

fn vm(number: u128, host: &str, state: State) -> (String, VmInstance) {
    let uuid = Uuid::from_u128(number).to_string();
    let mut vm = VmInstance {
        uuid: uuid.clone(),
        host_uuid: Some(host.to_owned()),
        ..VmInstance::default()
    };
    vm.set_state(state);
    (uuid, vm)
}

fn has(running: &[u128], folders: &[u128]) -> HostInventory {
    let running = running.iter().zip(1..).map(|(number, pid)| VmProcess {
        vm: Uuid::from_u128(*number),
        pid,
    });
    HostInventory {
        vm_processes: running.collect(),
        vm_folders: folders.iter().copied().map(Uuid::from_u128).collect(),
        ..HostInventory::default()
    }
}

#[test]
fn a_host_and_its_rows_are_held_against_each_other() {
    use Problem::{Differs, Extra, Missing};
    let rows = |it: &[(String, VmInstance)]| it.iter().cloned().collect::<HashMap<_, _>>();
    let check =
        |has: HostInventory, known: &[(String, VmInstance)], expected: &[(&str, Problem, bool)]| {
            let found = compare(HERE, &has, &rows(known));
            let found: Vec<_> = found.iter().map(Suspect::finding).collect();
            let short: Vec<_> = found
                .iter()
                .map(|it| (&*it.kind, it.problem(), !it.owner_uuid.is_empty()))
                .collect();
            assert_eq!(short, expected, "{found:?}");
        };
    // All is well, whatever an operation is at.
    check(has(&[1], &[1]), &[vm(1, HERE, State::Running)], &[]);
    check(has(&[], &[1]), &[vm(1, HERE, State::Stopped)], &[]);
    check(has(&[], &[]), &[vm(1, HERE, State::Stopped)], &[]);
    for state in [
        State::Starting,
        State::Stopping,
        State::Rebooting,
        State::Destroying,
    ] {
        check(has(&[1], &[1]), &[vm(1, HERE, state)], &[]);
        check(has(&[], &[]), &[vm(1, HERE, state)], &[]);
    }
    // One side only.
    check(has(&[1], &[1]), &[], &[("vm-process", Extra, false)]);
    check(has(&[], &[1]), &[], &[("vm-folder", Extra, false)]);
    check(
        has(&[], &[1]),
        &[vm(1, HERE, State::Running)],
        &[("vm-process", Missing, true)],
    );
    check(
        has(&[], &[]),
        &[vm(1, HERE, State::Unknown)],
        &[("vm-process", Missing, true)],
    );
    // Both, but otherwise.
    for state in [State::Stopped, State::Unknown] {
        let known = [vm(1, HERE, state)];
        check(has(&[1], &[1]), &known, &[("vm-process", Differs, true)]);
    }
    let elsewhere = [vm(1, "there", State::Running)];
    check(
        has(&[1], &[1]),
        &elsewhere,
        &[("vm-process", Differs, true)],
    );
    check(has(&[], &[1]), &elsewhere, &[("vm-folder", Extra, true)]);
    let twice = [vm(1, HERE, State::Running)];
    check(has(&[1, 1], &[1]), &twice, &[("vm-process", Differs, true)]);
}
