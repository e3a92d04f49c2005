//! Connects to a management server, and carries requests and responses, for ever.

use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic_prost::ProstCodec;

use super::messages::{
    ControlPlane, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
    DiscoveryResponse,
};
use super::mux::{Mux, Requests};
use crate::config_source::Protocol;
use crate::control::grpc::{Client, metadata, words};
use crate::shard::clock::millis;
use crate::token_bucket::TokenBucket;

/// A service of a management server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Service {
    Aggregated,
    Clusters,
    Endpoints,
    Listeners,
    Routes,
    Secrets,
}

impl Service {
    /// The service that has only resources of a type.
    pub(super) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "envoy.config.cluster.v3.Cluster" => Self::Clusters,
            "envoy.config.endpoint.v3.ClusterLoadAssignment" => Self::Endpoints,
            "envoy.config.listener.v3.Listener" => Self::Listeners,
            "envoy.config.route.v3.RouteConfiguration" => Self::Routes,
            "envoy.extensions.transport_sockets.tls.v3.Secret" => Self::Secrets,
            _ => return None,
        })
    }

    const fn method(self, protocol: Protocol) -> &'static str {
        use Protocol::{Delta, StateOfTheWorld};
        match (self, protocol) {
            (Self::Aggregated, StateOfTheWorld) => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
            }
            (Self::Aggregated, Delta) => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            }
            (Self::Clusters, StateOfTheWorld) => {
                "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters"
            }
            (Self::Clusters, Delta) => {
                "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters"
            }
            (Self::Endpoints, StateOfTheWorld) => {
                "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
            }
            (Self::Endpoints, Delta) => {
                "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"
            }
            (Self::Listeners, StateOfTheWorld) => {
                "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners"
            }
            (Self::Listeners, Delta) => {
                "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners"
            }
            (Self::Routes, StateOfTheWorld) => {
                "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes"
            }
            (Self::Routes, Delta) => "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
            (Self::Secrets, StateOfTheWorld) => {
                "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
            }
            (Self::Secrets, Delta) => {
                "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
            }
        }
    }
}

/// Talks to a management server, for ever.
pub(super) async fn run(mux: Rc<Mux>, service: Service) {
    tokio::join!(streams(&mux, service), expiry(&mux));
}

/// Opens one stream after the other.
async fn streams(mux: &Mux, service: Service) {
    let cluster = &mux.source.cluster;
    let rate = mux.source.rate_limit;
    let mut session = Session { mux, service, attempts: 0, limit: rate.map(TokenBucket::new) };
    let mut turn = 0;
    loop {
        let ended = match mux.source.protocol {
            Protocol::StateOfTheWorld => session.talk::<StateOfTheWorld>(turn).await,
            Protocol::Delta => session.talk::<Delta>(turn).await,
        };
        turn += 1;
        session.attempts += 1;
        mux.closed();
        let delay = mux.source.back_off.delay(session.attempts, fastrand::u64(..));
        let Err(why) = ended;
        // The first time only: a server may be away for days.
        if session.attempts == 1 {
            tracing::warn!(target: "config", "management server {cluster}: {why}; everything goes on with what is there");
        } else {
            tracing::debug!(target: "config", "management server {cluster}: {why}; again in {delay} ms");
        }
        sleep(Duration::from_millis(delay)).await;
    }
}

/// Takes away resources when they are not valid any longer.
async fn expiry(mux: &Mux) {
    loop {
        let next = mux.ttls.borrow().next();
        let ended = async {
            match next {
                Some(end) => sleep_until(end).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ended => mux.expire(Instant::now()),
            () = mux.ttls_changed.notified() => {}
        }
    }
}

/// What is different in the two protocols.
trait Variant {
    type Request: prost::Message + Default + 'static;
    type Response: prost::Message + Default + 'static;

    /// The next request, but for the node.
    fn next(requests: &mut Requests) -> Option<Self::Request>;

    fn set_node(request: &mut Self::Request, node: Vec<u8>);

    fn control_plane(response: &Self::Response) -> Option<&ControlPlane>;

    fn take(mux: &Mux, response: Self::Response);
}

struct StateOfTheWorld;

impl Variant for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn next(requests: &mut Requests) -> Option<Self::Request> {
        match requests {
            Requests::StateOfTheWorld(requests) => requests.next(),
            Requests::Delta(_) => None,
        }
    }

    fn set_node(request: &mut Self::Request, node: Vec<u8>) {
        request.node = Some(node);
    }

    fn control_plane(response: &Self::Response) -> Option<&ControlPlane> {
        response.control_plane.as_ref()
    }

    fn take(mux: &Mux, response: Self::Response) {
        mux.take(response);
    }
}

struct Delta;

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn next(requests: &mut Requests) -> Option<Self::Request> {
        match requests {
            Requests::Delta(requests) => requests.next(),
            Requests::StateOfTheWorld(_) => None,
        }
    }

    fn set_node(request: &mut Self::Request, node: Vec<u8>) {
        request.node = Some(node);
    }

    fn control_plane(response: &Self::Response) -> Option<&ControlPlane> {
        response.control_plane.as_ref()
    }

    fn take(mux: &Mux, response: Self::Response) {
        mux.take_delta(response);
    }
}

/// What goes on from one stream to the next.
struct Session<'a> {
    mux: &'a Mux,
    service: Service,
    /// Streams since the last response.
    attempts: u32,
    limit: Option<TokenBucket>,
}

/// Why a stream has ended, in words.
type Ended = String;

/// It never returns but for that.
enum Never {}

impl Session<'_> {
    /// Talks over one stream until it ends.
    async fn talk<V: Variant>(&mut self, turn: usize) -> Result<Never, Ended> {
        let source = &self.mux.source;
        let client = Client::connect(&self.mux.running, &source.cluster, &source.authority, turn);
        let Client { grpc, connection, carrier: _carrier } = client.await?;
        let _counted = connection.request();
        let mut grpc = grpc.max_decoding_message_size(source.message_max.unwrap_or(usize::MAX));

        self.mux.opened();
        let (to_server, requests) = mpsc::unbounded_channel();
        let mut outgoing = Outgoing::<V> { to_server, is_first: true };
        let request = tonic::Request::from_parts(
            metadata(&source.metadata),
            http::Extensions::new(),
            UnboundedReceiverStream::new(requests),
        );
        let method = PathAndQuery::from_static(self.service.method(source.protocol));
        // A server may answer only after the first requests.
        let mut opened = pin!(grpc.streaming(request, method, ProstCodec::default()));
        let mut responses = loop {
            let next_token = self.send::<V>(&mut outgoing);
            tokio::select! {
                opened = &mut opened => {
                    break opened.map_err(|status| words(&status))?.into_inner();
                }
                () = self.mux.news.notified() => {}
                () = next_token => {}
            }
        };
        loop {
            let next_token = self.send::<V>(&mut outgoing);
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.take::<V>(response),
                    Ok(None) => return Err("the server has ended the stream".to_owned()),
                    Err(status) => return Err(words(&status)),
                },
                () = self.mux.news.notified() => {}
                () = next_token => {}
            }
        }
    }

    /// Sends the requests that are due, as far as the rate limit lets it. Completes when it lets another one.
    fn send<V: Variant>(&self, outgoing: &mut Outgoing<V>) -> impl Future<Output = ()> + use<V> {
        self.mux.settle();
        let stats = self.mux.stats.control();
        let mut wait = None;
        loop {
            let pending = self.mux.requests.borrow().pending();
            stats.pending_requests.set(pending as u64);
            if pending == 0 {
                break;
            }
            if let Some(limit) = &self.limit
                && !limit.take(millis(self.mux.running.identity.started.elapsed()))
            {
                stats.rate_limit_enforced.inc();
                wait = Some(Duration::from_secs_f64(limit.rate().interval() / 1000.0));
                break;
            }
            let Some(request) = V::next(&mut self.mux.requests.borrow_mut()) else { break };
            outgoing.send(request, self.mux);
        }
        async move {
            match wait {
                Some(wait) => sleep(wait).await,
                None => pending().await,
            }
        }
    }

    fn take<V: Variant>(&mut self, response: V::Response) {
        if self.attempts > 0 {
            let cluster = &self.mux.source.cluster;
            tracing::info!(target: "config", "management server {cluster}: it answers again");
        }
        self.attempts = 0;
        if let Some(ControlPlane { identifier }) = V::control_plane(&response) {
            self.mux.stats.control().identifier.set(identifier);
        }
        V::take(self.mux, response);
    }
}

/// The requests of a stream.
struct Outgoing<V: Variant> {
    to_server: UnboundedSender<V::Request>,
    is_first: bool,
}

impl<V: Variant> Outgoing<V> {
    fn send(&mut self, mut request: V::Request, mux: &Mux) {
        if self.is_first || !mux.source.node_on_first_message_only {
            V::set_node(&mut request, mux.node.to_vec());
        }
        self.is_first = false;
        // The stream has ended: the next one asks again.
        let _ended = self.to_server.send(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_service() {
        let service = Service::of("envoy.config.cluster.v3.Cluster").unwrap();
        let method = service.method(Protocol::Delta);
        assert_eq!(method, "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters");
        assert_eq!(Service::of("no.Such"), None);
    }
}
