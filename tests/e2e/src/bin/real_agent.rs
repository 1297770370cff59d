//! The agent of a real host, as `cairn-kvm run --config` has it: a test needs it as a program
//! that cargo builds for this package.

use std::{error::Error, path::PathBuf};

use cairn_boot::config;

/// Argument: the configuration file.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args_os().nth(1).map(PathBuf::from);
    cairn_kvm::serve(&config::load(config.unwrap_or_default())?).await
}
