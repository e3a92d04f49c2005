//! Copies of requests that go to other clusters: `request_mirror_policies`.
//!
//! A mirror is a call (`callout/`) whose response is discarded. It gets the request as the route has edited
//! it, once, however many attempts are made.
//!
//! Invariant: a mirror neither delays nor fails the request. What its host does not take in time waits in
//! memory up to a limit, and beyond that the mirror is cut off. Envoy reads more slowly from the client
//! instead.

pub(crate) mod compile;

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::Core;
use super::callout::{Call, Target};
use super::filters::header_mutation::RequestMutations;
use super::route::action::port_start;
use super::route::{Forward, HeaderName, Route};
use crate::fraction::Fraction;
use crate::http::{FieldName, Method, RequestHead};
use crate::limits;
use crate::runtime::RuntimeFraction;
use crate::shard::clock::millis;
use crate::upstream::local::LocalCluster;

/// A mirror of some of the requests.
#[derive(Debug)]
pub struct Policy {
    cluster: MirrorCluster,
    /// Which requests are mirrored.
    fraction: RuntimeFraction,
    host: MirrorHost,
    mutations: RequestMutations,
    target: Arc<Target>,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            MirrorCluster::Named(name) => f.write_str(name)?,
            MirrorCluster::Header(name) => write!(f, "the cluster that {name} names")?,
        }
        let Fraction { numerator, denominator } = self.fraction.get();
        if numerator < denominator {
            write!(f, " ({numerator} of {denominator} requests)")?;
        }
        Ok(())
    }
}

/// Where mirrored requests go. There is no mirror if no cluster has that name.
#[derive(Debug)]
enum MirrorCluster {
    Named(Box<str>),
    /// `cluster_header`: the name is in this header.
    Header(HeaderName),
}

/// The host of a mirrored request.
#[derive(Debug)]
enum MirrorHost {
    /// That of the request, with [`SUFFIX`] before the port.
    Suffixed,
    /// That of the request.
    Kept,
    /// `host_rewrite_literal`
    Literal(Box<[u8]>),
}

//= envoy:config.route.v3.RouteAction.request_mirror_policies
//# "During shadowing, the host/authority header is altered such that ``-shadow`` is appended."
const SUFFIX: &[u8] = b"-shadow";

/// The policies of clusters, by the names of the clusters. They replace those of routes.
#[derive(Debug, Default)]
pub struct ClusterPolicies(HashMap<Box<str>, Arc<[Policy]>>);

impl ClusterPolicies {
    /// Whether no cluster has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ClusterPolicies {
    /// Those that apply to a request to the cluster of this name, instead of those of its route.
    pub(crate) fn of<'a>(&'a self, cluster: &str, plan: &'a Forward) -> Option<&'a [Policy]> {
        self.0.get(cluster).or(plan.mirrors.as_ref()).map(|policies| &**policies)
    }
}

/// The policies that apply to a request to this cluster.
#[inline]
pub(super) fn policies<'a>(
    core: &Core<'a>,
    plan: &'a Forward,
    cluster: &LocalCluster,
) -> Option<&'a [Policy]> {
    let service = core.service();
    service.mirrors.as_ref()?;
    // As in Envoy.
    if core.heads.request.method == Method::Connect {
        return None;
    }
    service.cluster_mirrors.of(&cluster.cluster().name, plan)
}

/// The mirrors of a request whose body is still on its way.
#[derive(Debug)]
pub(super) struct Mirrors {
    calls: Vec<Call>,
    /// The most bytes that wait for the host of one mirror.
    bytes_max: usize,
    /// The cluster of the request, which counts what is abandoned.
    cluster: Rc<LocalCluster>,
}

/// Sends the copies. Returns those that still need the body of the request.
#[cold]
pub(super) fn start(core: &Core<'_>, policies: &[Policy], route: &Route) -> Option<Box<Mirrors>> {
    let cluster = Rc::clone(core.upstream.cluster.as_ref()?);
    let calls: Vec<Call> = policies.iter().filter_map(|policy| policy.start(core, route)).collect();
    if core.has_no_body() {
        calls.into_iter().for_each(Call::detach);
        return None;
    }
    let bytes_max = core.replay_bytes_max(route);
    (!calls.is_empty()).then(|| Box::new(Mirrors { calls, bytes_max, cluster }))
}

impl Policy {
    fn start(&self, core: &Core<'_>, route: &Route) -> Option<Call> {
        let request = &core.heads.request;
        if !self.fraction.includes(core.random) {
            return None;
        }
        let name = match &self.cluster {
            MirrorCluster::Named(name) => name,
            MirrorCluster::Header(header) => {
                std::str::from_utf8(header.first_value(request)?).ok()?
            }
        };
        let cluster = Rc::clone(core.clusters.named(name)?);
        let given = core.given.for_mirror()?;
        let local = given.service.manager.client.local_address;
        let fill = |head: &mut RequestHead| {
            head.clone_from(request);
            self.mutations.apply(head, &core.stream(Some(route)));
            self.set_host(head);
            let fields = &mut head.fields;
            fields.set(FieldName::XEnvoyInternal, b"true");
            if let Some(local) = local {
                fields.join(FieldName::XForwardedFor, b",", local.to_string().as_bytes());
            }
            // The router takes it out again. Zero is no timeout.
            let timeout = core.timeouts.global.map_or(0, millis);
            let mut digits = itoa::Buffer::new();
            fields.set(FieldName::XEnvoyUpstreamRqTimeoutMs, digits.format(timeout).as_bytes());
        };
        Some(Call::mirror(given, &self.target, cluster, fill, core.body))
    }

    fn set_host(&self, head: &mut RequestHead) {
        match &self.host {
            MirrorHost::Kept => {}
            MirrorHost::Literal(host) => head.set_authority(host),
            MirrorHost::Suffixed => {
                let host = head.authority().unwrap_or_default();
                let (name, port) = host.split_at(port_start(host).unwrap_or(host.len()));
                let host = [name, SUFFIX, port].concat();
                head.set_authority(&host);
            }
        }
    }
}

impl Mirrors {
    /// Sends a part of the body.
    pub(super) fn send(&mut self, data: &[u8]) {
        let Self { calls, bytes_max, cluster } = self;
        calls.retain(|call| {
            call.send(data);
            let fits = call.unsent() <= *bytes_max
                && call.unsent_on_shard() <= limits::SHARD_MIRROR_BYTES_MAX;
            if !fits {
                cluster.stats().retry_or_shadow_abandoned.inc();
            }
            fits
        });
    }

    /// Sends the end of the body.
    pub(super) fn end(self, trailers: &[u8]) {
        for call in self.calls {
            call.end(trailers.to_vec());
            call.detach();
        }
    }
}
