//! The states of a virtual machine, and which may follow which: one table.

use cairn_proto::{
    compute::v1alpha1::{VmInstance, VmInstanceState as State},
    fault::Fault,
    meta::Resource as _,
};
use cairn_resource::now;
use cairn_store::Tx;
use cairn_types::ErrorCode;

/// From each state, those that may follow. Starting goes back to Stopped when a start is rolled
/// back; Stopping and Rebooting go back to Running. A virtual machine that an operation left on
/// its way can still be destroyed: operations of one virtual machine never overlap. What follows
/// Destroying is the end of the row, or Destroyed, from where it comes back as Stopped, or the same
/// again, if nobody goes on with it.
const TABLE: &[(State, &[State])] = &[
    (
        State::Starting,
        &[State::Running, State::Stopped, State::Destroying],
    ),
    (
        State::Running,
        &[
            State::Stopping,
            State::Stopped,
            State::Rebooting,
            State::Destroying,
            State::Unknown,
        ],
    ),
    (
        State::Stopping,
        &[State::Stopped, State::Running, State::Destroying],
    ),
    (State::Stopped, &[State::Starting, State::Destroying]),
    (State::Rebooting, &[State::Running, State::Destroying]),
    (State::Destroying, &[State::Destroyed, State::Destroying]),
    (State::Destroyed, &[State::Stopped, State::Destroying]),
    (
        State::Unknown,
        &[State::Running, State::Stopped, State::Destroying],
    ),
];

/// Whether `to` may follow `from`.
pub(super) fn may_follow(from: State, to: State) -> bool {
    TABLE
        .iter()
        .any(|(state, next)| *state == from && next.contains(&to))
}

/// Moves a virtual machine to a state, in its row and in `vm`.
///
/// # Errors
/// `WRONG_STATE`, naming both states, if the table does not have it.
pub(super) async fn enter(tx: &mut Tx, vm: &mut VmInstance, to: State) -> Result<(), Fault> {
    let from = vm.state();
    if !may_follow(from, to) {
        let message = format!(
            "virtual machine {} is {from:?}, which {to:?} may not follow",
            vm.uuid
        );
        return Err(Fault::new(ErrorCode::WrongState, message).on(VmInstance::NOUN, &vm.uuid));
    }
    vm.set_state(to);
    vm.stamp(now());
    tx.update(vm).await?;
    Ok(())
}

/// The row of a virtual machine.
///
/// # Errors
/// `NOT_FOUND`
pub(super) async fn load(tx: &mut Tx, uuid: &str) -> Result<VmInstance, Fault> {
    let vm = tx.get::<VmInstance>(uuid).await?;
    vm.ok_or_else(|| Fault::not_found(VmInstance::NOUN, uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_in_the_table_and_can_be_reached() {
        for number in 1..=8 {
            let state = State::try_from(number).unwrap();
            assert_eq!(
                TABLE.iter().filter(|(from, _)| *from == state).count(),
                1,
                "{state:?}"
            );
            let reached = TABLE.iter().any(|(_, next)| next.contains(&state));
            // A virtual machine begins by starting.
            assert!(
                reached || state == State::Starting,
                "{state:?} cannot be reached"
            );
        }
    }

    #[test]
    fn what_the_table_does_not_have_is_refused() {
        assert!(may_follow(State::Stopped, State::Starting));
        assert!(!may_follow(State::Running, State::Starting));
        assert!(!may_follow(State::Stopped, State::Stopping));
        assert!(!may_follow(State::Destroying, State::Stopped));
    }
}
