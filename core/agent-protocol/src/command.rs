//! The commands, declared once: names, replies, the trait that agents implement, the dispatch.

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ApplyDhcp, Behind, CacheImage, CommandError, CommandErrorCode, ConsolePart, CreateVolume,
    DeleteBridge, DeleteImage, DeleteVolume, DestroyVm, EnsureBridge, HostInventory, HostStatus,
    ImageFacts, PoolFacts, PoolSpace, ReadConsole, RebootVm, RemoveStray, StartVm, StopVm,
    TakeInventory, VmFacts, VolumeFacts,
};
use cairn_types::{HostUuid, OperationUuid, TaskUuid, Uuid};

/// A command: what a node sends to an agent.
pub trait AgentCommand: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the path.
    const NAME: &'static str;
    /// What a success replies.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// Which task runs a command, and on which host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskContext {
    /// The host: one agent process may serve several.
    pub host: HostUuid,
    /// The task.
    pub task: TaskUuid,
    /// Its operation.
    pub operation: OperationUuid,
    /// The resource whose commands run one at a time.
    pub resource: Uuid,
    /// The fencing token that admitted the task.
    pub token: u64,
    /// The agent's incarnation.
    pub agent_incarnation: Uuid,
}

/// Gets to know a host: the first command it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {}

/// What a host is and has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// CPUs.
    pub cpu_count: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Name and version of the operating system.
    pub operating_system: String,
    /// Name and version of the hypervisor.
    pub hypervisor_version: String,
    /// Another one for each boot of the host.
    pub boot_id: String,
    /// Another one for each start of the agent's process.
    pub agent_incarnation: Uuid,
    /// Virtual machines that run on it.
    pub running_vms: Vec<Uuid>,
}

/// A command that an agent cannot take.
#[derive(Debug, thiserror::Error)]
pub enum CommandParseError {
    /// There is no command with that name.
    #[error("there is no command `{0}`")]
    Unknown(String),
    /// The body is not such a command.
    #[error("the body is not a command `{name}`")]
    Invalid {
        /// The command's name.
        name: &'static str,
        /// What is wrong with the body.
        #[source]
        cause: serde_json::Error,
    },
}

macro_rules! commands {
    ($($(#[$doc:meta])* $method:ident = $name:literal: $command:ident => $reply:ty;)*) => {
        /// What every agent does. A command's future is dropped when its time limit passes, and
        /// any command may come again after it failed or was dropped.
        #[async_trait]
        pub trait Agent: Send + Sync + 'static {
            /// What the host has now, for hello and ping. Quick.
            async fn status(&self, host: HostUuid) -> HostStatus;

            /// Waits until what a host has changes without a command, and says which host. A
            /// change while nobody waits is told to the next who does. An agent that does not
            /// watch its hosts says nothing.
            async fn changed(&self) -> HostUuid {
                std::future::pending().await
            }

            $($(#[$doc])*
            async fn $method(
                &self,
                cx: &TaskContext,
                command: $command,
            ) -> Result<$reply, CommandError>;)*
        }

        $(impl AgentCommand for $command {
            const NAME: &'static str = $name;
            type Reply = $reply;
        })*

        /// Any command.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Command {
            $($(#[$doc])* $command($command),)*
        }

        impl Command {
            /// The names of all commands.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Reads a command's body.
            ///
            /// # Errors
            /// If there is no command with that name, or the body is not such a command.
            pub fn parse(name: &str, body: &[u8]) -> Result<Self, CommandParseError> {
                match name {
                    $($name => match serde_json::from_slice(body) {
                        Ok(command) => Ok(Self::$command(command)),
                        Err(cause) => Err(CommandParseError::Invalid { name: $name, cause }),
                    },)*
                    _ => Err(CommandParseError::Unknown(name.to_owned())),
                }
            }

            /// The command's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$command(_) => $name,)* }
            }

            /// Has the agent run the command.
            ///
            /// # Errors
            /// As the agent says.
            pub async fn run(
                self,
                agent: &dyn Agent,
                cx: &TaskContext,
            ) -> Result<serde_json::Value, CommandError> {
                match self {
                    $(Self::$command(command) => reply(agent.$method(cx, command).await?),)*
                }
            }
        }
    };
}

commands! {
    /// Tells what the host is.
    connect = "connect": Connect => HostFacts;
    /// Tells what a storage pool has, and makes its folder.
    pool_facts = "pool-facts": PoolFacts => PoolSpace;
    /// Brings an image; one that is there with the right content is a success.
    cache_image = "cache-image": CacheImage => ImageFacts;
    /// Removes a cached image; none there is a success.
    delete_image = "delete-image": DeleteImage => ();
    /// Makes a bridge; one that is there over this interface is a success.
    ensure_bridge = "ensure-bridge": EnsureBridge => ();
    /// Removes a bridge; none there is a success.
    delete_bridge = "delete-bridge": DeleteBridge => ();
    /// Has a bridge's addresses served as said; what is so already is a success.
    apply_dhcp = "apply-dhcp": ApplyDhcp => Option<Behind>;
    /// Makes a volume; one that is there with this size is a success.
    create_volume = "create-volume": CreateVolume => VolumeFacts;
    /// Removes a volume; none there is a success.
    delete_volume = "delete-volume": DeleteVolume => ();
    /// Starts a virtual machine; one that runs is a success.
    start_vm = "start-vm": StartVm => VmFacts;
    /// Stops a virtual machine; one that does not run is a success.
    stop_vm = "stop-vm": StopVm => ();
    /// Restarts a virtual machine; one that does not run is `NotFound`.
    reboot_vm = "reboot-vm": RebootVm => ();
    /// Removes a virtual machine; none there is a success.
    destroy_vm = "destroy-vm": DestroyVm => ();
    /// Reads a virtual machine's console log; nothing where it never ran here.
    read_console = "read-console": ReadConsole => Option<ConsolePart>;
    /// Looks at what the host really has, and not at what the agent noted.
    take_inventory = "take-inventory": TakeInventory => HostInventory;
    /// Removes what nobody says should be there; none there is a success.
    remove_stray = "remove-stray": RemoveStray => ();
}

fn reply(reply: impl Serialize) -> Result<serde_json::Value, CommandError> {
    serde_json::to_value(reply).map_err(|error| {
        CommandError::new(
            CommandErrorCode::Failed,
            format!("the reply is not JSON: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_by_its_name() {
        let vm = Uuid::from_u128(7);
        let body = serde_json::to_vec(&StopVm { vm, grace_secs: 3 }).unwrap();
        let command = Command::parse(StopVm::NAME, &body).unwrap();
        assert_eq!(command, Command::StopVm(StopVm { vm, grace_secs: 3 }));
        assert_eq!(command.name(), "stop-vm");
        // A field that a newer node added does not disturb; one that is missing does.
        assert!(Command::parse("connect", br#"{"deep": true}"#).is_ok());
        assert!(matches!(
            Command::parse("stop-vm", b"{}"),
            Err(CommandParseError::Invalid {
                name: "stop-vm",
                ..
            })
        ));
        assert!(matches!(
            Command::parse("dance", b"{}"),
            Err(CommandParseError::Unknown(_))
        ));
    }
}
