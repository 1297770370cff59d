//! The TLS listener behind every door: HTTP/1.1 and HTTP/2, bounded, stopped gracefully.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};
use tracing::{debug, error, warn};

use crate::{Identity, fingerprint};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Streams that one HTTP/2 connection may have open: a node's calls to a peer share one.
const MAX_CONCURRENT_STREAMS: u32 = 4096;
/// How long to leave a listener alone that cannot accept (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one listener bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the system's queue.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// After the stop, time for open requests to end before they are dropped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

/// Who sent a request; in the extensions of each.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// Whom its verified certificate speaks for.
    pub identity: Option<Identity>,
    /// The fingerprint of that certificate.
    pub fingerprint: Option<Arc<str>>,
}

/// Serves until `shutdown` is cancelled, then ends as [`Limits::drain`] says. All connections
/// have ended when this returns; if it is dropped, they are dropped with it.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let acceptor = TlsAcceptor::from(tls);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, address, permit)) = accepted else {
            // Not a wait for a state: the system does not tell when files are free again.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (acceptor, service) = (acceptor.clone(), service.clone());
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let _permit = permit;
            let handshake = async {
                stream.set_nodelay(true)?;
                acceptor.accept(stream).await
            };
            let handshake = tokio::select! {
                () = shutdown.cancelled() => return,
                handshake = timeout(limits.handshake, handshake) => handshake,
            };
            // Anyone can fail a handshake as often as they like: not a line in the log each.
            let stream = match handshake {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%address, %error, "tls handshake"),
                Err(_) => return debug!(%address, "tls handshake took too long"),
            };
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first());
            let peer = Peer {
                address,
                identity: leaf.and_then(Identity::of_certificate),
                fingerprint: leaf.map(|leaf| fingerprint(leaf).into()),
            };
            serve_connection(TokioIo::new(stream), peer, service, shutdown).await;
        });
    }
    drop(listener);
    let drained = timeout(limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    });
    if drained.await.is_err() {
        warn!(
            connections = connections.len(),
            "drop connections with open requests"
        );
        connections.shutdown().await;
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Permit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
        Err(error) => {
            warn!(%error, "accept a connection");
            None
        }
    }
}

async fn serve_connection<S, B>(
    io: TokioIo<tokio_rustls::server::TlsStream<TcpStream>>,
    peer: Peer,
    service: S,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let address = peer.address;
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.clone().oneshot(request)
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%address, %error, "connection");
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "connection");
    }
}

#[cfg(test)]
mod tests;
