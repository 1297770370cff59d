//! Logs to stderr, and traces to an OpenTelemetry collector when one is configured.

use std::{io, sync::atomic::Ordering};

use cairn_types::{Coded, ErrorCode, chain};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, error::OTelSdkError, trace::SdkTracerProvider};
use serde::Deserialize;
use toml::Spanned;
use tracing::{Subscriber, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt as _,
    registry::LookupSpan, util::SubscriberInitExt as _, util::TryInitError,
};

use crate::{
    config::{Check, Problems},
    propagation,
};

/// What a process tells of itself, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Which events are logged: a level, or levels per target, such as `info,cairn_flow=debug`.
    pub log: Spanned<String>,
    /// How a line of the log looks.
    pub format: LogFormat,
    /// The collector that traces go to over OTLP (gRPC), such as `http://127.0.0.1:4317`. Without
    /// one there are no traces, and propagation costs nothing.
    pub otlp_endpoint: Option<Spanned<String>>,
    /// The name under which traces appear.
    pub service_name: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log: Spanned::new(0..0, "info".to_owned()),
            format: LogFormat::Text,
            otlp_endpoint: None,
            service_name: "cairn".to_owned(),
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl Check for TelemetryConfig {
    fn check(&self, problems: &mut Problems<'_>) {
        if let Err(error) = EnvFilter::try_new(self.log.get_ref()) {
            let wrong = format!("is not a filter ({error})");
            problems.at(
                &self.log,
                wrong,
                "use something like `info,cairn_flow=debug`",
            );
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint.get_ref().starts_with("http://")
        {
            let right = "use something like `http://127.0.0.1:4317`";
            problems.at(endpoint, "is not an http address", right);
        }
    }
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter of the log cannot be understood.
    #[error("parse log filter `{filter}`")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        cause: ParseError,
    },
    /// The exporter of traces refused its settings.
    #[error("export traces to `{endpoint}`")]
    Exporter {
        /// The collector's address.
        endpoint: String,
        /// What is wrong.
        #[source]
        cause: ExporterBuildError,
    },
    /// Telemetry was started before in this process.
    #[error("start telemetry")]
    Started(#[from] TryInitError),
}

impl Coded for TelemetryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Filter { .. } | Self::Exporter { .. } => ErrorCode::InvalidArgument,
            Self::Started(_) => ErrorCode::Internal,
        }
    }
}

/// Starts the process's telemetry. Call it once, in a tokio runtime.
///
/// # Errors
/// The configuration is wrong in a way that its check did not see, or telemetry runs already.
pub fn start(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter =
        EnvFilter::try_new(config.log.get_ref()).map_err(|cause| TelemetryError::Filter {
            filter: config.log.get_ref().clone(),
            cause,
        })?;
    let log = match config.format {
        LogFormat::Text => fmt::layer()
            .with_ansi(false)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(io::stderr).boxed(),
    };
    let provider = match &config.otlp_endpoint {
        Some(endpoint) => Some(provider(endpoint.get_ref(), &config.service_name)?),
        None => None,
    };
    Registry::default()
        .with(log.with_filter(filter))
        .with(provider.as_ref().map(traces))
        .try_init()?;
    propagation::ENABLED.store(provider.is_some(), Ordering::Relaxed);
    Ok(TelemetryGuard { provider })
}

fn provider(endpoint: &str, service_name: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|cause| TelemetryError::Exporter {
            endpoint: endpoint.to_owned(),
            cause,
        })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(
            Resource::builder()
                .with_service_name(service_name.to_owned())
                .build(),
        )
        .build())
}

/// Spans up to INFO, whatever the log's filter leaves out: a trace must not break where the log is
/// quiet, and below INFO are the exporter's own calls.
pub(crate) fn traces<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("cairn"))
        .with_filter(LevelFilter::INFO)
}

/// Keeps telemetry going. When it is dropped the traces that wait are sent, which blocks the
/// thread for 5 s at most; async code calls [`TelemetryGuard::shutdown`].
#[derive(Debug)]
#[must_use = "without it the last traces are lost"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl TelemetryGuard {
    /// Sends the traces that wait, for 5 s at most, and ends the export. Logging goes on.
    pub async fn shutdown(mut self) {
        if let Some(provider) = self.provider.take() {
            // The flush blocks, and the export needs the runtime that it would block.
            let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
            if let Ok(Err(error)) = ended {
                report(&error);
            }
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
            report(&error);
        }
    }
}

fn report(error: &OTelSdkError) {
    warn!(error = %chain(error), "the last traces were not sent");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn its_problems_are_told_with_their_lines() {
        let text = "log = 'cairn=loud'\notlp_endpoint = 'https://x'\nformat = 'xml'\n";
        let error = config::parse::<TelemetryConfig>(text, "a.toml")
            .unwrap_err()
            .to_string();
        for expected in [
            "\n  a.toml:1:7: `log`: is not a filter (",
            "); use something like `info,cairn_flow=debug`\n",
            "\n  a.toml:2:17: `otlp_endpoint`: is not an http address; use something like `http:",
            "\n  a.toml:3:10: `format`: is `xml`, which is not a value that exists; ",
        ] {
            assert!(error.contains(expected), "`{expected}` is not in:\n{error}");
        }
        let empty = config::parse::<TelemetryConfig>("", "a.toml").unwrap();
        assert_eq!(empty, TelemetryConfig::default());
    }
}
