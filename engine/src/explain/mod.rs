//! What the configuration does with a request, without sending one: for `corvoy explain` and the admin
//! interface.
//!
//! It runs the same code as a request: the choice of the filter chain, the rules of the connection
//! manager, the route table and the edits of the route. It does not pick a host, and it runs no filter.

mod request;
mod text;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use self::request::Dry;
pub use self::request::{Asked, AskedError};
use crate::downstream::filter_chain::Speaks;
use crate::downstream::filter_chain_match::{Connection, Detected, TransportProtocol};
use crate::downstream::listener_filters::{self, ListenerFilter};
use crate::http::RequestHead;
use crate::request::manager::{Peer, normalize};
use crate::request::retry::RetryState;
use crate::request::route::action::stream_duration::grpc_timeout;
use crate::request::route::{
    self, Action, ClusterChoice, Forward, HostRewrite, Lookup, Route, Scratch, Trace, VirtualHost,
};
use crate::request::service::Service;
use crate::snapshot::Snapshot;
use crate::transport::tls::facts::{TlsFacts, TlsVersion};
use crate::upstream::cluster::Cluster;

/// A place in the configuration: `static_resources.listeners[0]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place(pub Vec<Step>);

/// One step of a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A field of a message.
    Field(&'static str),
    /// An element of a list.
    Index(usize),
}

/// What the configuration does with a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The request.
    pub request: String,
    /// The listener that accepts its connection.
    pub listener: Named,
    /// The filter chain that serves the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_chain: Option<Named>,
    /// The virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<Named>,
    /// The routes that were tried in vain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Found>,
    /// What is done with the request.
    pub outcome: Outcome,
    /// The HTTP filters that run, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// What is changed in the request before it is forwarded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_changes: Vec<String>,
    /// What the route adds to the response.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_changes: Vec<String>,
    /// What is worth knowing besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A part of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// Its name; may be empty.
    pub name: String,
    /// Where it is.
    pub at: Place,
}

/// A route that was tried in vain.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOver {
    /// Where it is.
    pub at: Place,
    /// The first condition that does not hold.
    pub failed_on: String,
}

/// The route that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its name; may be empty.
    pub name: String,
    /// Where it is.
    pub at: Place,
    /// The path specifier that matched.
    pub matched: String,
}

/// What is done with a request.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It is forwarded.
    Forward(Forwarded),
    /// It is answered from here.
    Reply {
        /// The status.
        status: u16,
        /// `response_code_details`, or what else is the reason.
        why: String,
        /// `location`
        #[serde(skip_serializing_if = "String::is_empty")]
        location: String,
    },
    /// No filter chain matches: the connection is closed.
    Closed,
    /// The connection is not HTTP: its bytes go to a network filter.
    Bytes,
}

/// How a request is forwarded.
#[derive(Clone, Debug, Serialize)]
pub struct Forwarded {
    /// The cluster.
    pub cluster: Named,
    /// Its hosts as configured.
    pub hosts: Vec<String>,
    /// How long the response may take; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u128>,
    /// The same for one try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u128>,
    /// How long nothing may happen; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u128>,
    /// How long the request with its response may take.
    pub max_stream_duration_ms: Option<u128>,
    /// How often the request is tried again at most.
    pub retries: u32,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<&'static str>,
}

/// Explains a request.
///
/// # Errors
/// When no listener serves it, or it is not a request.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Result<Explanation, AskedError> {
    let (index, listener, note) = request::listener(snapshot, asked)?;
    let at = Place::of("listeners").index(index);
    let mut explanation = Explanation {
        request: asked.to_string(),
        listener: Named { name: listener.name.clone(), at: at.clone() },
        filter_chain: None,
        virtual_host: None,
        passed_over: Vec::new(),
        route: None,
        outcome: Outcome::Closed,
        filters: Vec::new(),
        request_changes: Vec::new(),
        response_changes: Vec::new(),
        notes: note.into_iter().collect(),
    };
    let local = request::local(listener, asked);
    let inspects =
        |filter: &ListenerFilter| matches!(filter.kind, listener_filters::Kind::TlsInspector(_));
    // Without an inspector nothing is known of TLS when the filter chain is chosen.
    let sees_tls = asked.is_https && listener.listener_filters.filters.iter().any(inspects);
    let detected = Detected {
        transport: if sees_tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
        server_name: if sees_tls { asked.host.to_ascii_lowercase() } else { String::new() },
        // What most clients offer.
        application_protocols: if sees_tls {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            Vec::new()
        },
    };
    let connection = Connection {
        local,
        remote: asked.client,
        direct_remote: asked.client,
        detected: &detected,
    };
    let chains = &listener.filter_chains;
    let Some((index, chain)) = chains.find(&connection) else { return Ok(explanation) };
    let at = match chains.is_default(index) {
        true => at.field("default_filter_chain"),
        false => at.field("filter_chains").index(index),
    };
    let name = match &chain.speaks {
        Speaks::Http(service) => service.info.chain_name.to_string(),
        Speaks::Tcp(_) => String::new(),
    };
    explanation.filter_chain = Some(Named { name, at: at.clone() });
    if chain.tls.is_some() != asked.is_https {
        let why = if asked.is_https { "has no TLS" } else { "expects TLS" };
        explanation.notes.push(format!("the filter chain {why}: such a connection would fail"));
    }
    let Speaks::Http(service) = &chain.speaks else {
        explanation.outcome = Outcome::Bytes;
        return Ok(explanation);
    };
    let at = at.field("filters").index(chain.filters.count()).field("typed_config");
    let dry = Dry { asked, local, service };
    follow(snapshot, &dry, &at.field("route_config"), &mut explanation)?;
    Ok(explanation)
}

/// The way of the request through the connection manager.
fn follow(
    snapshot: &Snapshot,
    dry: &Dry<'_>,
    routes_at: &Place,
    explanation: &mut Explanation,
) -> Result<(), AskedError> {
    let Dry { asked, local, service } = *dry;
    let mut head = asked.head()?;
    let tls = asked.is_https.then(|| TlsFacts::new(TlsVersion::Tls13));
    let peer = Peer { remote: asked.client, local, tls: tls.as_ref() };
    let received = head.clone();
    let facts = match normalize::request(&mut head, &service.manager, &peer, &mut || 0) {
        normalize::Outcome::Continue(facts) => facts,
        normalize::Outcome::Refuse(refusal) => {
            let why = refusal.details().to_owned();
            explanation.outcome =
                Outcome::Reply { status: refusal.status(), why, location: String::new() };
            return Ok(());
        }
    };
    let routes = service.routes.newest();
    if !facts.internal {
        for name in &routes.internal_only_headers {
            name.remove_from(&mut head.fields);
        }
    }
    let request = route::Request {
        head: &head,
        tls: tls.as_ref(),
        client: facts.client,
        ends: crate::address::Ends { remote: asked.client, local },
        random: asked.random,
        metadata: None,
        state: None,
    };
    let trace = routes.trace(&request);
    note_search(&trace, routes_at, explanation);
    if trace.virtual_host.is_none() && asked.port.is_some() {
        let why = "no domain matches a host with its port: see ignore_port_in_host_matching";
        explanation.notes.push(why.to_owned());
    }
    let names = service.filters.names_of(trace.lookup.route());
    explanation.filters = names.map(str::to_owned).collect();
    let Lookup::Found { virtual_host, route } = trace.lookup else {
        explanation.outcome = without_route(trace.lookup, &head);
        return Ok(());
    };
    explanation.response_changes = dry.response_changes(route, &head);
    explanation.outcome = outcome(snapshot, virtual_host, route, &mut head, dry, explanation);
    explanation.request_changes = request::changes(&received, &head);
    Ok(())
}

/// Which virtual host and routes were tried, and which route was found.
fn note_search(trace: &Trace<'_>, at: &Place, explanation: &mut Explanation) {
    let Some((index, host)) = trace.virtual_host else { return };
    let at = at.clone().field("virtual_hosts").index(index);
    explanation.virtual_host = Some(Named { name: host.name.to_string(), at: at.clone() });
    let at_route = |index| match trace.by_tree {
        // A tree has no list of its routes.
        true => at.clone().field("matcher"),
        false => at.clone().field("routes").index(index),
    };
    let passed_over = trace.failed.iter().map(|(index, failed_on)| PassedOver {
        at: at_route(*index),
        failed_on: failed_on.clone(),
    });
    explanation.passed_over = passed_over.collect();
    if let Some((weight, total)) = trace.chance {
        let note = format!("the cluster is drawn by chance: {weight} of {total} requests get it");
        explanation.notes.push(note);
    }
    explanation.route = trace.found.as_ref().map(|(index, matched)| Found {
        name: trace.lookup.route().map_or_else(String::new, |route| route.name.to_string()),
        at: at_route(*index),
        matched: matched.clone(),
    });
}

fn without_route(lookup: Lookup<'_>, head: &RequestHead) -> Outcome {
    if matches!(lookup, Lookup::TlsRequired) {
        let mut location = Vec::new();
        route::tls_location(head, &mut location);
        return reply(301, "the virtual host requires TLS", &location);
    }
    reply(404, "route_not_found", b"")
}

fn reply(status: u16, why: &str, location: &[u8]) -> Outcome {
    let location = String::from_utf8_lossy(location).into_owned();
    Outcome::Reply { status, why: why.to_owned(), location }
}

/// What the action of the route does; edits the head as it would be forwarded.
fn outcome(
    snapshot: &Snapshot,
    virtual_host: &VirtualHost,
    route: &Route,
    head: &mut RequestHead,
    dry: &Dry<'_>,
    explanation: &mut Explanation,
) -> Outcome {
    let plan = match &route.action {
        Action::ClusterNotFound { status } => return reply(*status, "cluster_not_found", b""),
        Action::DirectResponse(direct) => {
            let mut location = Vec::new();
            direct.location(head, &mut location);
            return reply(direct.status, "direct_response", &location);
        }
        Action::Redirect(redirect) => {
            let mut location = Vec::new();
            let format = dry.evaluate(route, head);
            redirect.location(&route.path, head, &format, &mut location);
            return reply(redirect.status, "redirect", &location);
        }
        Action::Forward(plan) => plan,
    };
    if let Some(protocol) = dry.refused_upgrade(plan, head) {
        return reply(403, &format!("upgrade_failed: {protocol} is not allowed"), b"");
    }
    let index = match &plan.cluster {
        ClusterChoice::Index(number) => {
            snapshot.clusters.iter().position(|cluster| cluster.number.index() == *number)
        }
        ClusterChoice::Header(name) => name.first_value(head).and_then(|value| {
            snapshot.clusters.iter().position(|cluster| cluster.name.as_bytes() == value)
        }),
        // Only mirrors have it.
        ClusterChoice::Open => None,
    };
    let Some((index, cluster)) = index.and_then(|at| Some((at, snapshot.clusters.get(at)?))) else {
        return reply(plan.not_found_status, "cluster_not_found", b"");
    };
    if let Some(group) = virtual_host.virtual_clusters.of(head) {
        let name = if group.name.is_empty() { "other" } else { &*group.name };
        explanation.notes.push(format!("it counts in the virtual cluster {name}"));
    }
    if matches!(plan.host_rewrite, HostRewrite::Auto) {
        explanation.notes.push("the host becomes the name of the chosen endpoint".to_owned());
    }
    let mirrors = dry.service.cluster_mirrors.of(&cluster.name, plan);
    for mirror in mirrors.unwrap_or_default() {
        explanation.notes.push(format!("it is mirrored to {mirror}"));
    }
    if plan.internal_redirect.is_some() {
        explanation.notes.push("redirects of the host are followed here".to_owned());
    }
    let forwarded = forwarded(index, cluster, plan, head, dry);
    dry.edit((virtual_host, route), plan, head);
    Outcome::Forward(forwarded)
}

fn forwarded(
    index: usize,
    cluster: &Cluster,
    plan: &Forward,
    head: &RequestHead,
    dry: &Dry<'_>,
) -> Forwarded {
    let timeouts = dry.timeouts(plan, head);
    let manager = &dry.service.manager.timeouts;
    let idle = plan.idle_timeout.or(manager.stream_idle);
    let duration = plan.max_stream_duration.as_ref().map_or(manager.max_stream_duration, |it| {
        it.limit(grpc_timeout(&head.fields), manager.max_stream_duration)
    });
    let retry = RetryState::new(plan.retry.as_ref(), head);
    let ms = |timeout: Duration| timeout.as_millis();
    Forwarded {
        cluster: Named { name: cluster.name.clone(), at: Place::of("clusters").index(index) },
        hosts: cluster.discovery.described(),
        timeout_ms: timeouts.global.map(ms),
        per_try_timeout_ms: timeouts.per_try.map(ms),
        idle_timeout_ms: idle.filter(|idle| !idle.is_zero()).map(ms),
        max_stream_duration_ms: duration.map(ms),
        retries: retry.as_ref().map_or(0, RetryState::retries_left),
        retry_on: retry.as_ref().map_or_else(Vec::new, |retry| retry.retry_on().tokens()),
    }
}

impl Place {
    /// A list of the static resources.
    fn of(list: &'static str) -> Self {
        Self(vec![Step::Field("static_resources"), Step::Field(list)])
    }

    fn field(mut self, name: &'static str) -> Self {
        self.0.push(Step::Field(name));
        self
    }

    fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
