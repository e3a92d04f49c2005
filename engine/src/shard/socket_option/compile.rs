//! Schema → socket options.

use corvoy_config::{self as config, Path, Problems};

use super::{Family, LocalEnd, OptionValue, SocketOption, SocketState};
use crate::address;

/// Compiles the options of the list at `at`; those for other sockets than of TCP are left out.
pub(crate) fn options(
    options: &[config::SocketOption],
    at: &Path,
    problems: &mut Problems,
) -> Vec<SocketOption> {
    let mut compiled = Vec::with_capacity(options.len());
    for (i, option) in options.iter().enumerate() {
        let at = at.index(i);
        let config::SocketOption { level, name, int_value, buf_value, state, r#type, ip_version } =
            option;
        let mut number = |field: &str, number: i64| {
            let number = i32::try_from(number);
            if number.is_err() {
                problems.error(&at.field(field), "the kernel takes an int of 32 bits");
            }
            number.ok()
        };
        let level = number("level", *level);
        let name = number("name", *name);
        let value = match (int_value, buf_value) {
            (Some(value), _) => number("int_value", *value).map(OptionValue::Int),
            (None, bytes) => bytes.clone().map(OptionValue::Bytes),
        };
        if let Some(config::SocketType {
            stream: None,
            datagram: Some(config::DatagramSocket {}),
        }) = r#type
        {
            continue;
        }
        let (Some(level), Some(name), Some(value)) = (level, name, value) else { continue };
        let state = match state {
            config::SocketState::StatePrebind => SocketState::Prebind,
            config::SocketState::StateBound => SocketState::Bound,
            config::SocketState::StateListening => SocketState::Listening,
        };
        let family = match ip_version {
            config::SocketIpVersion::SocketIpVersionUnspecified => Family::Any,
            config::SocketIpVersion::SocketIpVersionIpv4 => Family::V4,
            config::SocketIpVersion::SocketIpVersionIpv6 => Family::V6,
        };
        compiled.push(SocketOption { level, name, value, state, family });
    }
    compiled
}

/// `upstream_bind_config`: how the local ends of connections are made.
pub(crate) fn local_end(
    bind: Option<&config::BindConfig>,
    at: &Path,
    problems: &mut Problems,
) -> LocalEnd {
    let Some(config::BindConfig { source_address, freebind, socket_options }) = bind else {
        return LocalEnd::default();
    };
    let at_source = at.field("source_address");
    let address = source_address.as_ref().and_then(|source| {
        if source.ipv4_compat {
            problems.not_implemented(&at_source.field("ipv4_compat"), "ipv4_compat of a source");
        }
        address::compile::ip_and_port(source, &at_source, problems)
    });
    let mut options = Vec::new();
    if freebind.is_some_and(|on| on) {
        options.extend(super::freebind());
    }
    if address.is_some_and(|address| address.port() == 0) {
        // The kernel chooses a port when it connects: then only the pair of addresses must be unused.
        options.push(super::bind_address_no_port());
    }
    let at = at.field("socket_options");
    options.extend(self::options(socket_options, &at, problems));
    LocalEnd { address, options }
}
