//! The agent of a real host, as `cairn-kvm run --config` has it: a test needs it as a program
//! that cargo builds for this package. Its tasks can be held, as those of `held-agent`.

use std::{error::Error, path::PathBuf};

use cairn_boot::config;
use cairn_e2e::HoldAt;

/// Argument: the configuration file.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args_os().nth(1).map(PathBuf::from);
    let config = config::load(config.unwrap_or_default())?;
    cairn_kvm::serve_with(&config, Some(HoldAt::as_told())).await
}
