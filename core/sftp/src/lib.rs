//! Files on an SFTP server: the client that nodes and the agents of hosts share, and the SSH key
//! that a cloud authenticates with.
//!
//! A server is known by its key ([`HostKey`]): one that shows another is refused by name. Where
//! no key is known yet, the one that is shown is handed back, to be kept from then on. A
//! [`Connection`] is for one piece of work; it ends with it, and nothing is tried again in here.
//!
//! Absent on purpose: passwords, agents of SSH, and whatever a user has in `~/.ssh`.

mod connection;
mod error;
mod file;
mod host_key;
mod key;

pub use connection::{Connection, Endpoint, Entry, Space, address_problem};
pub use error::SftpError;
pub use file::{BLOCK, Reader, Writer};
pub use host_key::{HostKey, InvalidHostKey};
pub use key::SshKey;
