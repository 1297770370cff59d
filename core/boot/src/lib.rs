//! What every process needs to start and stop: configuration, telemetry, metrics, tasks, signals.
//!
//! A process reads its configuration, starts telemetry, starts its tasks, waits for a reason to
//! stop, and stops them within a limit:
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use cairn_boot::{
//!     Check, OnFailure, Problems, Spanned, Tasks, config, shutdown,
//!     telemetry::{self, TelemetryConfig},
//! };
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct AgentConfig {
//!     heartbeat_secs: Spanned<u64>,
//!     #[serde(default)]
//!     telemetry: TelemetryConfig,
//! }
//!
//! impl Check for AgentConfig {
//!     fn check(&self, problems: &mut Problems<'_>) {
//!         if *self.heartbeat_secs.get_ref() == 0 {
//!             problems.at(&self.heartbeat_secs, "is 0", "use a whole number of seconds from 1");
//!         }
//!         self.telemetry.check(problems);
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config: AgentConfig = config::parse("heartbeat_secs = 5", "agent.toml")?;
//!     let telemetry = telemetry::start(&config.telemetry)?;
//!     let signal = shutdown::signal()?;
//!
//!     let tasks = Tasks::new();
//!     tasks.start("heartbeat", OnFailure::StopProcess, |stop| async move {
//!         stop.cancelled().await;
//!         Ok::<(), Infallible>(())
//!     });
//!
//!     # tasks.stopping().cancel();
//!     tokio::select! {
//!         _ = signal => {}
//!         () = tasks.stopping().cancelled() => {}
//!     }
//!     if let Err(stuck) = tasks.shutdown(Duration::from_secs(10)).await {
//!         tracing::error!(?stuck, "tasks did not stop");
//!     }
//!     telemetry.shutdown().await;
//!     Ok(())
//! }
//! ```

pub mod config;
pub mod metrics;
pub mod propagation;
pub mod shutdown;
mod tasks;
pub mod telemetry;

pub use config::{Check, ConfigError, Problem, Problems, Spanned};
pub use tasks::{OnFailure, TaskFailed, Tasks};
pub use tokio_util::sync::CancellationToken;
