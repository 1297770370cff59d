//! The console log of a virtual machine, read from its host.

use std::time::Duration;

use cairn_agent::{Task, stored_uuid};
use cairn_agent_protocol::ReadConsole;
use cairn_proto::{
    compute::v1alpha1::{
        GetVmInstanceConsoleLogRequest, GetVmInstanceConsoleLogResponse, VmInstance,
    },
    crud::Check,
    fault::Fault,
    meta::Resource as _,
};
use cairn_types::{ErrorCode, OperationUuid, TaskUuid, Uuid};

use super::Vms;

/// What is returned unless the request says otherwise.
const LIMIT_BYTES: u32 = 64 << 10;
const MOST_BYTES: u64 = 1 << 20;
/// It reads a file: an agent that takes longer is not well.
const TIME_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn check(request: &GetVmInstanceConsoleLogRequest) -> Result<(), Fault> {
    let mut check = Check::default();
    check.uuid("uuid", &request.uuid);
    if let Some(bytes) = request.limit_bytes {
        check.within("limit_bytes", bytes.into(), 1, MOST_BYTES);
    }
    check.finish()
}

impl Vms {
    /// Asks the host of a virtual machine for a part of its console log.
    ///
    /// # Errors
    /// `WRONG_STATE` if it was never on a host, or wrote nothing there; a fault of the host if
    /// that cannot be asked.
    pub(super) async fn console_log(
        &self,
        vm: &VmInstance,
        request: &GetVmInstanceConsoleLogRequest,
    ) -> Result<GetVmInstanceConsoleLogResponse, Fault> {
        let refused = |code, message| Fault::new(code, message).on(VmInstance::NOUN, &vm.uuid);
        let Some(host) = vm.host_uuid.as_deref() else {
            let text = format!("virtual machine {} has never been on a host", vm.uuid);
            return Err(refused(ErrorCode::WrongState, text));
        };
        let host = match self.hosts.find(host).await? {
            Some((host, true)) => host,
            Some((host, false)) => {
                let text = format!("host {host}, which has the console log, is not connected");
                return Err(refused(ErrorCode::AgentUnreachable, text));
            }
            None => return Err(Fault::not_found("host", host)),
        };
        let uuid = stored_uuid(&vm.uuid)?;
        let task = Task {
            // Nothing is to be found again by these: whoever asks again wants what is there then.
            // An outcome that nobody waits for any more is of no operation, so the agent is told
            // to forget it.
            task: TaskUuid::generate(),
            operation: OperationUuid::generate(),
            resource: queue(uuid),
            limit: TIME_LIMIT,
        };
        let command = ReadConsole {
            vm: uuid,
            offset: request.offset,
            limit_bytes: request.limit_bytes.unwrap_or(LIMIT_BYTES),
        };
        let (part, ack) = self.hosts.call(host, task, &command).await?;
        ack.committed();
        let Some(part) = part else {
            let text = format!(
                "virtual machine {} has no console log on host {host}",
                vm.uuid
            );
            return Err(refused(ErrorCode::WrongState, text));
        };
        Ok(GetVmInstanceConsoleLogResponse {
            content: part.content.into(),
            offset: part.offset,
            total_bytes: part.total_bytes,
        })
    }
}

/// The queue at the agent: not that of the virtual machine, whose start and stop may take long,
/// and whose fencing token is theirs alone. One for each virtual machine, and always the same,
/// because an agent remembers a queue for good.
fn queue(vm: Uuid) -> Uuid {
    Uuid::new_v5(&vm, b"console")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_of_a_console_is_stable_and_its_own() {
        let vm = Uuid::from_u128(7);
        let stable = "fac2e700-9aa6-5db0-aa3f-2aa00f340b1c";
        assert_eq!(queue(vm).to_string(), stable);
        assert_ne!(queue(Uuid::from_u128(8)), queue(vm));
    }
}
