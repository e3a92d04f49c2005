//! Schema → socket options.

use std::net::SocketAddr;

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
    let Some(config::BindConfig {
        source_address,
        freebind,
        socket_options,
        extra_source_addresses,
        additional_source_addresses,
    }) = bind
    else {
        return LocalEnd::default();
    };
    let at_source = at.field("source_address");
    let address = source_address.as_ref().and_then(|it| source(it, &at_source, problems));
    let freebinds = freebind.is_some_and(|on| on);
    let at_options = at.field("socket_options");
    let own = options(socket_options, &at_options, problems);
    let mut local = with_options(address, freebinds, &own);
    let extra = extra_source_addresses.iter().map(|schema| {
        let config::ExtraSourceAddress { address, socket_options } = schema;
        (address.as_ref(), socket_options.as_ref())
    });
    let deprecated = additional_source_addresses.iter().map(|address| (Some(address), None));
    let others: Vec<_> = extra.chain(deprecated).collect();
    let at_extra = at.field("extra_source_addresses");
    match others.as_slice() {
        [] => {}
        _ if source_address.is_none() => {
            problems.error(&at_extra, "an extra address needs a source_address beside it");
        }
        [(Some(schema), own_options)] => {
            let at_one = at_extra.index(0);
            let other = source(schema, &at_one.field("address"), problems);
            if let (Some(first), Some(other)) = (address, other)
                && first.is_ipv4() == other.is_ipv4()
            {
                let message = "it must have another IP version than source_address";
                problems.error(&at_one.field("address"), message);
            }
            let options = match own_options {
                Some(config::SocketOptionsOverride { socket_options }) => {
                    options(socket_options, &at_one.field("socket_options"), problems)
                }
                None => own,
            };
            local.other_family = Some(Box::new(with_options(other, freebinds, &options)));
        }
        _ => problems.error(&at_extra, "one extra address is possible: of the other IP version"),
    }
    local
}

fn source(
    schema: &config::SocketAddress,
    at: &Path,
    problems: &mut Problems,
) -> Option<SocketAddr> {
    if schema.ipv4_compat {
        problems.not_implemented(&at.field("ipv4_compat"), "ipv4_compat of a source");
    }
    address::compile::ip_and_port(schema, at, problems)
}

fn with_options(address: Option<SocketAddr>, freebinds: bool, own: &[SocketOption]) -> LocalEnd {
    let mut options = Vec::new();
    if freebinds {
        options.extend(super::freebind());
    }
    if address.is_some_and(|address| address.port() == 0) {
        // The kernel chooses a port when it connects: then only the pair of addresses must be unused.
        options.push(super::bind_address_no_port());
    }
    options.extend_from_slice(own);
    LocalEnd { address, options, other_family: None }
}
