//! Schema → the transport sockets of a cluster.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::{
    Criteria, ProxyHeader, ProxyHeaderStats, TransportSocket, TransportSockets, UpstreamTls,
};
use crate::common_compile;
use crate::proxy_protocol::Version;
use crate::stats::{Registry, Scope};
use crate::transport::tls::context::compile as tls;

/// What the transport sockets of a cluster have in common.
pub(in crate::upstream) struct Context<'a> {
    /// The name of the cluster.
    pub(in crate::upstream) cluster: &'a str,
    /// Its name in stats.
    pub(in crate::upstream) stat_name: &'a str,
    pub(in crate::upstream) registry: &'a Registry,
    pub(in crate::upstream) secrets: &'a tls::Secrets,
}

/// Compiles `transport_socket` and `transport_socket_matches` of the cluster at `at`.
pub(in crate::upstream) fn transport_sockets(
    default: Option<&config::TransportSocket>,
    matches: &[config::TransportSocketMatch],
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> TransportSockets {
    let default_at = at.field("transport_socket");
    let default = context.socket(default, "default", default_at, problems);
    let at = at.field("transport_socket_matches");
    let each = matches.iter().enumerate();
    let matches = each.map(|(i, schema)| {
        let config::TransportSocketMatch { name, r#match, transport_socket } = schema;
        let at = at.index(i).field("transport_socket");
        if transport_socket.is_none() {
            problems.missing(&at, "a match needs a transport_socket");
        }
        let fields = r#match.as_ref().and_then(serde_json::Value::as_object);
        let criteria = fields.into_iter().flatten();
        let criteria = criteria.map(|(key, value)| (key.clone(), value.clone())).collect();
        (Criteria(criteria), context.socket(transport_socket.as_ref(), name, at, problems))
    });
    TransportSockets { matches: matches.collect(), default }
}

impl Context<'_> {
    fn socket(
        &self,
        schema: Option<&config::TransportSocket>,
        name: &str,
        at: Path,
        problems: &mut Problems,
    ) -> Arc<TransportSocket> {
        let Self { cluster, stat_name, registry, secrets } = self;
        let stats = || registry.scope(&format!("cluster.{stat_name}."));
        let (proxy_header, inner, at) = proxy_header(&stats, schema, at, problems);
        let context = tls::client(inner, &at, secrets, problems);
        Arc::new(TransportSocket {
            proxy_header: proxy_header.map(Arc::new),
            tls: context.map(|context| UpstreamTls::new(context, cluster, stat_name, registry)),
            stats: registry.scope(&format!("cluster.{stat_name}.{name}.")),
        })
    }
}

/// Takes `upstream_proxy_protocol` off a transport socket: its header, and the transport socket inside
/// with its path.
fn proxy_header<'a>(
    stats: &dyn Fn() -> Arc<Scope<ProxyHeaderStats>>,
    socket: Option<&'a config::TransportSocket>,
    at: Path,
    problems: &mut Problems,
) -> (Option<ProxyHeader>, Option<&'a config::TransportSocket>, Path) {
    let Some(config::TransportSocket { name: _, typed_config }) = socket else {
        return (None, None, at);
    };
    let Some(config::Any::ProxyProtocolUpstreamTransport(options)) = typed_config else {
        return (None, socket, at);
    };
    let config::ProxyProtocolUpstreamTransport { config, transport_socket } = &**options;
    let config::ProxyProtocolConfig { version, pass_through_tlvs, added_tlvs } =
        config.clone().unwrap_or_default();
    let config_at = at.field("typed_config").field("config");
    let passes = pass_through_tlvs.as_ref().map(common_compile::tlv_types);
    let added = common_compile::added_tlvs(&added_tlvs, &config_at.field("added_tlvs"), problems);
    let version = match version {
        config::ProxyProtocolVersion::V1 => Version::V1,
        config::ProxyProtocolVersion::V2 => Version::V2,
    };
    let at = at.field("typed_config").field("transport_socket");
    let is_repeated = transport_socket.as_ref().is_some_and(|inner| {
        let config::TransportSocket { name: _, typed_config } = inner;
        matches!(typed_config, Some(config::Any::ProxyProtocolUpstreamTransport(_)))
    });
    if is_repeated {
        problems.error(&at, "a connection begins with one PROXY header only");
        return (None, None, at);
    }
    let header = ProxyHeader { version, passes, added, stats: stats() };
    (Some(header), transport_socket.as_ref(), at)
}

/// The transport socket for an endpoint whose metadata adds values to the PROXY header.
pub(in crate::upstream) fn for_endpoint(
    socket: &Arc<TransportSocket>,
    metadata: Option<&config::Metadata>,
    at: &Path,
    problems: &mut Problems,
) -> Arc<TransportSocket> {
    let typed =
        metadata.and_then(|config::Metadata { filter_metadata: _, typed_filter_metadata }| {
            typed_filter_metadata.get(PROXY_PROTOCOL)
        });
    let Some(config::Any::PerHostConfig(host)) = typed else { return Arc::clone(socket) };
    let config::PerHostConfig { added_tlvs } = &**host;
    let at = at.field("metadata").field("typed_filter_metadata").key(PROXY_PROTOCOL);
    let added = common_compile::added_tlvs(added_tlvs, &at.field("added_tlvs"), problems);
    let Some(header) = &socket.proxy_header else { return Arc::clone(socket) };
    Arc::new(TransportSocket {
        proxy_header: Some(Arc::new(header.with_host(&added))),
        tls: socket.tls.clone(),
        stats: Arc::clone(&socket.stats),
    })
}

/// The key of the values that a host adds, in its metadata.
const PROXY_PROTOCOL: &str = "envoy.transport_sockets.proxy_protocol";
