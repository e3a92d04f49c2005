//! Calls of the control plane to gRPC services in clusters: management servers, and services that collect access logs
//! and stats.
//!
//! A [`Client`] is one connection to one host. Who uses it decides when to connect again.

pub(super) mod connection;

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};

use self::connection::Connection;
use super::server::Running;
use crate::upstream::Cluster;

/// A connection to a service.
pub(super) struct Client {
    pub(super) grpc: Grpc<Channel>,
    pub(super) connection: CountedConnection,
    /// To be held as long as it is used.
    pub(super) carrier: Carrier,
}

impl Client {
    /// Connects to the host of the cluster whose turn it is.
    ///
    /// # Errors
    /// Why that failed, in words.
    pub(super) async fn connect(
        running: &Running,
        cluster: &str,
        authority: &str,
        turn: usize,
    ) -> Result<Self, String> {
        let in_words = |error: &dyn Display| error.to_string();
        let (cluster, host) =
            connection::host(running, cluster, turn).map_err(|error| in_words(&error))?;
        let connected = Connection::open(&cluster, &host, b"h2").await;
        let connection =
            connected.map_err(|error| format!("cannot connect to {}: {error}", host.address))?;
        let scheme = if connection.is_encrypted() { "https" } else { "http" };
        let origin: Uri = format!("{scheme}://{authority}")
            .parse()
            .map_err(|error| format!("`{authority}` is not an authority: {error}"))?;
        let (sender, carrier) = http2::handshake(OnThisThread, TokioIo::new(connection))
            .await
            .map_err(|error| in_words(&error))?;
        let connection = CountedConnection::new(cluster, true);
        let carrier = Carrier(tokio::task::spawn_local(carrier).abort_handle());
        let mut grpc = Grpc::with_origin(Channel(sender), origin);
        grpc.ready().await.map_err(|error| in_words(&error))?;
        Ok(Self { grpc, connection, carrier })
    }
}

/// As metadata of a call; what cannot be metadata was refused with the configuration.
pub(super) fn metadata(pairs: &[(String, String)]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in pairs {
        let (name, value) =
            (MetadataKey::from_bytes(name.as_bytes()), MetadataValue::try_from(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            metadata.append(name, value);
        }
    }
    metadata
}

/// Why a call has ended, in words.
pub(super) fn words(status: &tonic::Status) -> String {
    let code = status.code();
    match status.message() {
        "" => format!("the server has ended the stream: {code}"),
        text => format!("the server has ended the stream: {code} {text}"),
    }
}

/// What carries HTTP/2 frames, until this is dropped.
pub(super) struct Carrier(pub(super) AbortHandle);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection in the stats of its cluster.
pub(super) struct CountedConnection(Arc<Cluster>);

impl CountedConnection {
    pub(super) fn new(cluster: Arc<Cluster>, is_http2: bool) -> Self {
        let stats = cluster.stats.control();
        stats.upstream_cx_total.inc();
        stats.upstream_cx_active.inc();
        if is_http2 {
            stats.upstream_cx_http2_total.inc();
        } else {
            stats.upstream_cx_http1_total.inc();
        }
        Self(cluster)
    }

    /// A request on it, until what is returned is dropped.
    pub(super) fn request(&self) -> CountedRequest {
        let stats = self.0.stats.control();
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        CountedRequest(Arc::clone(&self.0))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let stats = self.0.stats.control();
        stats.upstream_cx_active.dec();
        stats.upstream_cx_destroy.inc();
    }
}

/// A request in the stats of its cluster.
pub(super) struct CountedRequest(Arc<Cluster>);

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.0.stats.control().upstream_rq_active.dec();
    }
}

/// Runs the tasks of a connection.
#[derive(Clone, Copy)]
pub(super) struct OnThisThread;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(future));
    }
}

/// A connection as tonic wants it.
pub(super) struct Channel(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
