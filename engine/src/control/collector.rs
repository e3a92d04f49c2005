//! An OpenTelemetry collector: takes encoded messages over gRPC, or in HTTP requests.
//!
//! The connection stays open between two messages. What the collector says about a part of a message is ignored.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tonic::Code;

use super::grpc::connection::{self, Connection};
use super::grpc::{Carrier, Client, CountedConnection, OnThisThread, metadata, words};
use super::raw_codec::RawCodec;
use super::server::Running;
use crate::remote_service::{GrpcService, HttpService, RemoteService};
use crate::upstream::cluster::Protocols;

/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A collector.
pub(super) struct Collector<'a> {
    running: &'a Running,
    service: &'a RemoteService,
    /// The method over gRPC.
    method: &'static str,
    user_agent: String,
    open: Option<Open>,
}

/// An open connection to it.
enum Open {
    Grpc(Client),
    Http(HttpClient),
}

/// A connection for HTTP requests.
struct HttpClient {
    sender: Sender,
    scheme: &'static str,
    connection: CountedConnection,
    _carrier: Carrier,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why a message was not taken, in words.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be taken later.
    Passing(String),
    /// It will never be taken.
    Final(String),
}

impl<'a> Collector<'a> {
    /// `version` is that of this program.
    pub(super) fn new(
        running: &'a Running,
        service: &'a RemoteService,
        method: &'static str,
        version: &str,
    ) -> Self {
        let user_agent = format!("OTel-OTLP-Exporter-{version}");
        Self { running, service, method, user_agent, open: None }
    }

    /// The name of its cluster.
    pub(super) fn cluster(&self) -> &'a str {
        self.service.cluster()
    }

    /// Sends an encoded message; `turn` selects the host if there is no connection.
    pub(super) async fn export(&mut self, turn: usize, message: Vec<u8>) -> Result<(), Failure> {
        let exported = match self.service {
            RemoteService::Grpc(service) => self.call(service, turn, message).await,
            RemoteService::Http(service) => self.post(service, turn, message).await,
        };
        if exported.is_err() {
            self.open = None;
        }
        exported
    }

    async fn call(
        &mut self,
        service: &GrpcService,
        turn: usize,
        message: Vec<u8>,
    ) -> Result<(), Failure> {
        let client = match self.open.take() {
            Some(Open::Grpc(client)) => client,
            _ => Client::connect(self.running, &service.cluster, &service.authority, turn)
                .await
                .map_err(Failure::Passing)?,
        };
        let Open::Grpc(client) = self.open.insert(Open::Grpc(client)) else { return Ok(()) };
        let _counted = client.connection.request();
        client.grpc.ready().await.map_err(|error| Failure::Passing(error.to_string()))?;
        let metadata = metadata(&service.metadata);
        let request = tonic::Request::from_parts(metadata, http::Extensions::new(), message);
        let method = PathAndQuery::from_static(self.method);
        let call = client.grpc.unary(request, method, RawCodec);
        let answered = limited(service.timeout, call).await?;
        answered.map(drop).map_err(|status| match status.code() {
            // As OpenTelemetry's protocol has it.
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unknown => Failure::Passing(words(&status)),
            _ => Failure::Final(words(&status)),
        })
    }

    async fn post(
        &mut self,
        service: &HttpService,
        turn: usize,
        message: Vec<u8>,
    ) -> Result<(), Failure> {
        let client = match self.open.take() {
            Some(Open::Http(client)) if client.sender.is_usable() => client,
            _ => HttpClient::connect(self.running, &service.cluster, turn)
                .await
                .map_err(Failure::Passing)?,
        };
        let request = self.request(service, &client, message)?;
        let Open::Http(client) = self.open.insert(Open::Http(client)) else { return Ok(()) };
        let _counted = client.connection.request();
        let passing =
            |error: Box<dyn std::error::Error + Send + Sync>| Failure::Passing(error.to_string());
        let exchange = async {
            let response = match &mut client.sender {
                Sender::Http1(sender) => sender.send_request(request).await?,
                Sender::Http2(sender) => sender.send_request(request).await?,
            };
            let status = response.status();
            let mut body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            // So that the connection can be used again.
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(status)
        };
        match limited(service.timeout, exchange).await?.map_err(passing)? {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => {
                Err(Failure::Passing(format!("it has answered {status}")))
            }
            status => Err(Failure::Final(format!("it has answered {status}"))),
        }
    }

    fn request(
        &self,
        service: &HttpService,
        client: &HttpClient,
        message: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let (authority, path) = (&service.authority, &service.path);
        let builder = Request::builder().method(Method::POST);
        let mut builder = match client.sender {
            Sender::Http1(_) => builder.uri(path).header(HOST, authority),
            Sender::Http2(_) => builder.uri(format!("{}://{authority}{path}", client.scheme)),
        };
        builder = builder
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, &self.user_agent);
        for (name, value) in &service.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(Full::new(Bytes::from(message)));
        request.map_err(|error| Failure::Final(error.to_string()))
    }
}

impl HttpClient {
    async fn connect(running: &Running, cluster: &str, turn: usize) -> Result<Self, String> {
        let host = connection::host(running, cluster, turn);
        let (cluster, host) = host.map_err(|error| error.to_string())?;
        let is_http2 = cluster.http.protocols == Protocols::Http2;
        let alpn: &[u8] = if is_http2 { b"h2" } else { b"http/1.1" };
        let connection = Connection::open(&cluster, &host, alpn).await;
        let connection =
            connection.map_err(|error| format!("cannot connect to {}: {error}", host.address))?;
        let scheme = if connection.is_encrypted() { "https" } else { "http" };
        let io = TokioIo::new(connection);
        let words = |error: hyper::Error| error.to_string();
        let (sender, task) = if is_http2 {
            let (sender, carrier) = http2::handshake(OnThisThread, io).await.map_err(words)?;
            (Sender::Http2(sender), tokio::task::spawn_local(async { drop(carrier.await) }))
        } else {
            let (sender, carrier) = http1::handshake(io).await.map_err(words)?;
            (Sender::Http1(sender), tokio::task::spawn_local(async { drop(carrier.await) }))
        };
        let connection = CountedConnection::new(cluster, is_http2);
        Ok(Self { sender, scheme, connection, _carrier: Carrier(task.abort_handle()) })
    }
}

impl Sender {
    fn is_usable(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }
}

/// `call`, unless it takes too long.
async fn limited<T>(limit: Option<Duration>, call: impl Future<Output = T>) -> Result<T, Failure> {
    match limit {
        None => Ok(call.await),
        Some(limit) => tokio::time::timeout(limit, call)
            .await
            .map_err(|_| Failure::Passing(format!("no answer within {limit:?}"))),
    }
}
