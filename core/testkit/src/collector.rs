//! An OpenTelemetry collector, to see which spans processes export.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot listen")]

use std::{net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

/// A collector on the loopback address; it ends with its value.
pub struct Collector {
    address: SocketAddr,
    spans: watch::Receiver<Vec<Exported>>,
    _server: JoinSet<()>,
}

/// A span that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The service of the process that it came from.
    pub service: String,
    /// What was done.
    pub name: String,
    /// In hexadecimal.
    pub trace: String,
    /// In hexadecimal.
    pub id: String,
    /// In hexadecimal; empty for the first of a trace.
    pub parent: String,
    /// Its fields, as text.
    pub fields: Vec<(String, String)>,
}

impl Collector {
    /// Starts to listen.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, spans) = watch::channel(Vec::new());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let service = TraceServiceServer::new(Sink(sender));
            let server = Server::builder().add_service(service);
            let incoming = TcpIncoming::from(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            spans,
            _server: server,
        }
    }

    /// Where to export to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the spans that came are as `condition` says, and returns them.
    ///
    /// # Panics
    /// With the spans that came, if they are not within `limit`.
    pub async fn wait_for(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&[Exported]) -> bool,
    ) -> Vec<Exported> {
        let mut spans = self.spans.clone();
        let came = timeout(limit, spans.wait_for(|spans| condition(spans))).await;
        match came {
            Ok(spans) => spans.unwrap().clone(),
            Err(_) => panic!("in {limit:?} there came {:#?}", self.spans.borrow()),
        }
    }
}

struct Sink(watch::Sender<Vec<Exported>>);

#[async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes);
            let service = fields(attributes.unwrap_or_default())
                .into_iter()
                .find_map(|(name, value)| (name == "service.name").then_some(value))
                .unwrap_or_default();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let spans: Vec<_> = spans.map(|span| exported(&service, span)).collect();
            self.0.send_modify(|all| all.extend(spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn exported(service: &str, span: Span) -> Exported {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    Exported {
        service: service.to_owned(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        fields: fields(span.attributes),
    }
}

fn fields(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: AnyValue| match value.value {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    let fields = attributes.into_iter();
    fields
        .map(|field| (field.key, field.value.map(text).unwrap_or_default()))
        .collect()
}
