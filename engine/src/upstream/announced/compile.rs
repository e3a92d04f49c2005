//! Schema → what the connections of a cluster announce.

use corvoy_config::{self as config, Path, Problems};

use super::Announcement;
use crate::proxy_protocol::Version;

/// Takes `upstream_proxy_protocol` off a transport socket: what is announced, and the transport socket
/// inside with its path.
pub(in crate::upstream) fn unwrap<'a>(
    socket: Option<&'a config::TransportSocket>,
    at: Path,
    problems: &mut Problems,
) -> (Option<Announcement>, Option<&'a config::TransportSocket>, Path) {
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
    if pass_through_tlvs.is_some() {
        problems.not_implemented(&config_at.field("pass_through_tlvs"), "passing TLVs on");
    }
    if !added_tlvs.is_empty() {
        problems.not_implemented(&config_at.field("added_tlvs"), "adding TLVs");
    }
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
    (Some(Announcement { version }), transport_socket.as_ref(), at)
}
