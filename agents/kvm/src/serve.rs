//! The agent's process, from its configuration to its end.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tracing::{error, info};

use crate::{KvmAgent, KvmConfig, KvmError};
use cairn_agent_runtime::{AgentServer, Failpoints, Options};
use cairn_boot::{Tasks, shutdown, telemetry};

/// How long the parts of the process have to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Serves the nodes until a signal asks the process to stop. Virtual machines go on.
///
/// # Errors
/// If the agent cannot begin, or one of its parts failed.
pub async fn serve(config: &KvmConfig) -> Result<(), Box<dyn Error>> {
    serve_with(config, None).await
}

/// [`serve`], with places where a test may hold the agent's tasks.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    config: &KvmConfig,
    failpoints: Option<Arc<dyn Failpoints>>,
) -> Result<(), Box<dyn Error>> {
    let telemetry = telemetry::start(&config.telemetry)?;
    let signal = shutdown::signal()?;
    let agent = Arc::new(KvmAgent::open(config).await?);
    let options = Options {
        failpoints,
        ..Options::new(config.directory.get_ref())
    };
    let server = AgentServer::new(agent, options)?;
    if server.hosts() != [config.host] {
        let text = format!(
            "{} does not have the enrolment of host {}, or has that of others too",
            config.directory.get_ref().display(),
            config.host
        );
        return Err(text.into());
    }
    let address = config.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|cause| KvmError::Listen { address, cause })?;
    info!(host = %config.host, address = %listener.local_addr()?, "listening");

    let tasks = Tasks::new();
    tasks.start_once("agent", move |stop| async move {
        server.run(listener, stop).await;
    });
    tokio::select! {
        signal = signal => info!(signal, "stop"),
        () = tasks.stopping().cancelled() => {}
    }
    if let Err(stuck) = tasks.shutdown(STOP_LIMIT).await {
        error!(?stuck, "tasks did not stop");
    }
    telemetry.shutdown().await;
    match tasks.failed() {
        Some(failed) => Err(failed.clone().into()),
        None => Ok(()),
    }
}
