//! The information about an exchange that format strings can use.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Core;
use super::given::Given;
use super::noted::Noted;
use super::route::{Route, VirtualCluster};
use super::service::LocalService;
use crate::address::Address;
use crate::flags::Flags;
use crate::format::StreamInfo;
use crate::http::Version;
use crate::listener_facts::ListenerFacts;
use crate::metadata::{Metadata, MetadataOf};
use crate::transport::tls::facts::TlsFacts;
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::Origin;
use crate::upstream::pool::Pool;

/// The upstream side of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstream {
    pub(super) cluster: Option<Rc<LocalCluster>>,
    /// The pool of the last attempt's host.
    pub(super) pool: Option<Rc<Pool>>,
    /// The connection of the last attempt.
    connection: Option<UsedConnection>,
    /// Attempts made; one on a stale connection does not count.
    pub(super) attempts: u32,
    /// Why the last attempt failed.
    pub(super) failure: Option<Error>,
    /// Bytes of the request body, without framing.
    pub(super) body_bytes: u64,
}

/// The connection of an attempt, which may be closed by now.
#[derive(Clone, Debug)]
struct UsedConnection {
    id: u64,
    protocol: Version,
    local: Option<Address>,
    tls: Option<Rc<TlsFacts>>,
}

impl Upstream {
    /// Records the host of a new attempt, which has no connection yet.
    #[inline]
    pub(super) fn attempts_host(&mut self, pool: &Rc<Pool>) {
        self.pool = Some(Rc::clone(pool));
        self.connection = None;
    }

    /// Records the connection of the attempt.
    #[inline]
    pub(super) fn connected(&mut self, origin: &Origin) {
        self.connection = Some(UsedConnection {
            id: origin.id(),
            protocol: origin.protocol(),
            local: origin.local(),
            tls: origin.tls().cloned(),
        });
    }
}

/// What is different of a request to a host, seen from the request of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) started: SystemTime,
    pub(super) elapsed: Duration,
    pub(super) response_took: Option<Duration>,
    pub(super) failure: Option<Error>,
    pub(super) is_mirror: bool,
    pub(super) has_connection: bool,
}

/// The state of an exchange at one moment.
#[derive(Clone, Debug)]
pub(super) struct Stream<'a> {
    details: Option<&'a str>,
    flags: Flags,
    response_code: Option<u16>,
    route: Option<&'a Route>,
    virtual_cluster: Option<&'a VirtualCluster>,
    upstream: Upstream,
    noted: Option<Rc<Noted>>,
    is_health_check: bool,
    started: SystemTime,
    /// Since the request began.
    elapsed: Duration,
    /// Whether it is for the filters of a cluster, which know the host before there is a connection.
    for_upstream: bool,
    request_took: Option<Duration>,
    response_took: Option<Duration>,
    response_tx_took: Option<Duration>,
    bytes_sent: u64,
    /// The version of the client; of a request to a host, that of the host.
    protocol: Option<Version>,
    /// Where it came from; none: it is a mirror.
    downstream: Option<Downstream>,
}

/// The connection of the client.
#[derive(Clone, Debug)]
struct Downstream {
    id: u64,
    client: Address,
    peer: Address,
    local: Address,
    service: Rc<LocalService>,
    listener_facts: Option<Rc<ListenerFacts>>,
    tls: Option<Rc<TlsFacts>>,
}

impl<'a> Stream<'a> {
    /// For a request of this client that has just begun.
    pub(super) fn of(given: &Given, protocol: Version) -> Self {
        Self {
            details: None,
            flags: Flags::NONE,
            response_code: None,
            route: None,
            virtual_cluster: None,
            upstream: Upstream::default(),
            noted: None,
            is_health_check: false,
            started: SystemTime::now(),
            elapsed: Duration::ZERO,
            for_upstream: false,
            request_took: None,
            response_took: None,
            response_tx_took: None,
            bytes_sent: 0,
            protocol: Some(protocol),
            downstream: Some(Downstream {
                id: given.id,
                client: given.peer,
                peer: given.direct_peer(),
                local: given.local,
                service: Rc::clone(&given.service),
                listener_facts: given.listener_facts.clone(),
                tls: given.tls.clone(),
            }),
        }
    }

    /// With the response of an upstream host.
    pub(super) fn with_upstream_response(self, status: u16, flags: Flags) -> Self {
        Self {
            details: Some("via_upstream"),
            flags,
            response_code: Some(status),
            response_took: Some(self.elapsed),
            ..self
        }
    }

    /// For the filters of a cluster.
    pub(super) const fn with_upstream_host(mut self) -> Self {
        self.for_upstream = true;
        self
    }

    /// With the status of the response, whatever it is.
    pub(super) const fn answered(mut self, status: u16) -> Self {
        self.response_code = Some(status);
        self
    }

    /// While a local reply is made. As in Envoy, the headers that a route adds do not see its
    /// status yet.
    pub(super) fn before_local_reply(self, flags: Flags, details: &'a str) -> Self {
        Self { details: Some(details), flags, ..self }
    }

    /// Of a request whose head was refused: it did not end.
    pub(super) fn without_request(self) -> Self {
        Self { request_took: None, ..self }
    }

    /// With what a request has come to: status, flags and details, bytes of the response's body, and how
    /// long it took until the response began and from there to its end.
    pub(super) fn with_outcome<'b>(
        self,
        response_code: Option<u16>,
        (flags, details): (Flags, Option<&'b str>),
        bytes_sent: u64,
        response_took: Option<Duration>,
        response_tx_took: Option<Duration>,
    ) -> Stream<'b>
    where
        'a: 'b,
    {
        Stream {
            details,
            flags,
            response_code,
            bytes_sent,
            response_took,
            response_tx_took,
            ..self
        }
    }

    /// The same for a request to a host. As in Envoy it is a stream of its own, with other times, and without
    /// what the filters of the request have noted.
    pub(super) fn of_attempt(self, attempt: Attempt) -> Self {
        let Attempt { started, elapsed, response_took, failure, is_mirror, has_connection } =
            attempt;
        let mut upstream = Upstream { attempts: 0, failure, body_bytes: 0, ..self.upstream };
        if !has_connection {
            upstream.connection = None;
        }
        Self {
            details: None,
            virtual_cluster: None,
            protocol: upstream.connection.as_ref().map(|connection| connection.protocol),
            upstream,
            noted: None,
            started,
            elapsed,
            request_took: None,
            response_took,
            response_tx_took: None,
            downstream: self.downstream.filter(|_| !is_mirror),
            ..self
        }
    }

    /// With so many bytes of the bodies of a request to a host and of its response.
    pub(super) const fn with_bytes(mut self, sent: u64, received: u64) -> Self {
        self.bytes_sent = sent;
        self.upstream.body_bytes = received;
        self
    }

    /// With the outcome of a request to a host.
    pub(super) fn with_response(self, status: Option<u16>, flags: Flags) -> Self {
        Self { response_code: status, flags, ..self }
    }

    /// With these details, unless there are others.
    pub(super) const fn with_details_or(mut self, details: &'a str) -> Self {
        if self.details.is_none() {
            self.details = Some(details);
        }
        self
    }

    /// With a local reply.
    pub(super) fn with_local_reply<'b>(
        &'b self,
        status: u16,
        flags: Flags,
        details: &'b str,
    ) -> Stream<'b> {
        Stream { details: Some(details), flags, response_code: Some(status), ..self.clone() }
    }
}

impl<'a> Core<'a> {
    /// The current state.
    pub(super) fn stream<'b>(&self, route: Option<&'b Route>) -> Stream<'b>
    where
        'a: 'b,
    {
        let began = self.heads.began;
        let elapsed = Duration::from_millis(self.shard.clock.now().saturating_sub(began));
        let started = self.started.get().unwrap_or_else(|| {
            let now = SystemTime::now();
            now.checked_sub(elapsed).unwrap_or(now)
        });
        // It must not change between uses.
        self.started.set(Some(started));
        // As in Envoy, a request for an upgrade never ends.
        let received = self.received.filter(|_| self.is_complete());
        let received = received.map(|received| received.saturating_sub(began));
        let mut stream = Stream::of(self.given, self.heads.request.version);
        if let (Some(downstream), Some(facts)) = (&mut stream.downstream, &self.facts) {
            downstream.client = facts.client;
        }
        Stream {
            route,
            virtual_cluster: self.groups.virtual_cluster(),
            upstream: self.upstream.clone(),
            noted: self.noted.clone(),
            is_health_check: self.record.is_health_check,
            started,
            elapsed,
            for_upstream: false,
            request_took: received.map(Duration::from_millis),
            ..stream
        }
    }
}

impl StreamInfo for Stream<'_> {
    fn start_time(&self) -> SystemTime {
        self.started
    }

    fn duration(&self) -> Option<Duration> {
        Some(self.elapsed)
    }

    fn request_duration(&self) -> Option<Duration> {
        self.request_took
    }

    fn response_duration(&self) -> Option<Duration> {
        self.response_took
    }

    fn response_tx_duration(&self) -> Option<Duration> {
        self.response_tx_took
    }

    fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    fn bytes_received(&self) -> u64 {
        self.upstream.body_bytes
    }

    fn response_code(&self) -> Option<u16> {
        self.response_code
    }

    fn protocol(&self) -> Option<Version> {
        self.protocol
    }

    fn response_code_details(&self) -> Option<&str> {
        self.details
    }

    fn response_flags(&self) -> Flags {
        self.flags
    }

    fn is_health_check(&self) -> bool {
        self.is_health_check
    }

    fn route_name(&self) -> Option<&str> {
        self.route.map(|route| &*route.name)
    }

    fn virtual_cluster_name(&self) -> Option<&str> {
        // As in Envoy, `other` is not named.
        self.virtual_cluster.map(|it| &*it.name).filter(|name| !name.is_empty())
    }

    fn listener_name(&self) -> Option<&str> {
        Some(&self.downstream.as_ref()?.service.info.name)
    }

    fn filter_chain_name(&self) -> Option<&str> {
        Some(&self.downstream.as_ref()?.service.info.chain_name)
    }

    fn static_metadata(&self, of: MetadataOf) -> Option<&Metadata> {
        match of {
            MetadataOf::Cluster => Some(&self.upstream.cluster.as_ref()?.cluster().metadata),
            MetadataOf::FilterChain | MetadataOf::Listener => {
                self.downstream.as_ref()?.service.info.metadata(of)
            }
            MetadataOf::Route => Some(&self.route?.metadata),
            MetadataOf::UpstreamHost => {
                Some(&self.upstream.pool.as_ref()?.host().endpoint.metadata)
            }
            MetadataOf::VirtualHost => Some(&self.route?.virtual_host_metadata),
        }
    }

    fn dynamic_metadata(&self) -> Option<&Metadata> {
        self.noted.as_ref().map(|noted| &noted.metadata)
    }

    fn filter_state(&self, key: &str) -> Option<&str> {
        self.noted.as_ref()?.state.text(key)
    }

    fn upstream_protocol(&self) -> Option<Version> {
        self.upstream.connection.as_ref().map(|connection| connection.protocol)
    }

    fn upstream_cluster(&self) -> Option<&str> {
        self.upstream.cluster.as_ref().map(|cluster| &*cluster.cluster().observability_name)
    }

    fn upstream_cluster_raw(&self) -> Option<&str> {
        self.upstream.cluster.as_ref().map(|cluster| &*cluster.cluster().name)
    }

    fn upstream_host(&self) -> Option<Address> {
        self.upstream.pool.as_ref().map(|pool| pool.host().address)
    }

    fn upstream_host_name(&self) -> Option<&str> {
        self.upstream.pool.as_ref().map(|pool| &*pool.host().endpoint.hostname)
    }

    fn upstream_remote_address(&self) -> Option<Address> {
        let is_known = self.upstream.connection.is_some() || self.for_upstream;
        is_known.then(|| self.upstream_host())?
    }

    fn upstream_local_address(&self) -> Option<Address> {
        self.upstream.connection.as_ref()?.local
    }

    fn upstream_connection_id(&self) -> Option<u64> {
        self.upstream.connection.as_ref().map(|connection| connection.id)
    }

    fn upstream_request_attempt_count(&self) -> u32 {
        self.upstream.attempts
    }

    fn upstream_transport_failure_reason(&self) -> Option<Cow<'_, str>> {
        self.upstream.failure?.transport_failure().map(Cow::Owned)
    }

    fn upstream_tls(&self) -> Option<&TlsFacts> {
        self.upstream.connection.as_ref()?.tls.as_deref()
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.downstream_tls()?.server_name.as_deref()
    }

    fn listener_facts(&self) -> Option<&ListenerFacts> {
        self.downstream.as_ref()?.listener_facts.as_deref()
    }

    fn downstream_tls(&self) -> Option<&TlsFacts> {
        self.downstream.as_ref()?.tls.as_deref()
    }

    fn connection_id(&self) -> Option<u64> {
        // As in Envoy, that of a mirror is 0.
        Some(self.downstream.as_ref().map_or(0, |downstream| downstream.id))
    }

    fn downstream_remote_address(&self) -> Option<Address> {
        self.downstream.as_ref().map(|downstream| downstream.client)
    }

    fn downstream_direct_remote_address(&self) -> Option<Address> {
        self.downstream.as_ref().map(|downstream| downstream.peer)
    }

    fn downstream_local_address(&self) -> Option<Address> {
        self.downstream.as_ref().map(|downstream| downstream.local)
    }
}
