//! Schema → where the address of the client comes from.

use std::net::{IpAddr, UdpSocket};

use corvoy_config::{self as config, Path, Problems};

use super::Detection;
use crate::address::compile::cidrs;
use crate::request::manager::ClientAddress;

/// Where the connection manager at `at` takes the address of the client from.
pub(in super::super) fn client(
    schema: &config::HttpConnectionManager,
    at: &Path,
    problems: &mut Problems,
) -> ClientAddress {
    let use_remote_address = schema.use_remote_address.unwrap_or(false);
    let extensions = &schema.original_ip_detection_extensions;
    let at_extensions = at.field("original_ip_detection_extensions");
    if !extensions.is_empty() {
        let hops = schema.xff_num_trusted_hops > 0;
        for (field, is_set) in
            [("use_remote_address", use_remote_address), ("xff_num_trusted_hops", hops)]
        {
            if is_set {
                let why = format!("original IP detection extensions exclude {field}");
                problems.error(&at.field(field), why);
            }
        }
    }
    let each = extensions.iter().enumerate();
    let detections: Vec<_> = each
        .filter_map(|(i, schema)| detection(schema, &at_extensions.index(i), problems))
        .collect();
    let names_itself = use_remote_address || !detections.is_empty();
    ClientAddress {
        use_remote_address,
        xff_num_trusted_hops: schema.xff_num_trusted_hops as usize,
        skip_xff_append: schema.skip_xff_append,
        local_address: if names_itself { local_address() } else { None },
        detections: detections.into(),
    }
}

/// The address from which this machine reaches other networks. Sends no packet.
pub(crate) fn local_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn detection(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<Detection> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    match typed_config {
        Some(config::Any::CustomHeaderConfig(schema)) => {
            let config::CustomHeaderConfig {
                header_name,
                allow_extension_to_set_address_as_trusted,
                reject_with_status,
            } = &**schema;
            // As in Envoy, what is no error is 403.
            let status = |config::HttpStatus { code }: &config::HttpStatus| {
                Some(*code as u16).filter(|status| *status >= 400).unwrap_or(403)
            };
            Some(Detection::CustomHeader {
                name: header_name.to_ascii_lowercase().into_bytes().into(),
                is_trusted: *allow_extension_to_set_address_as_trusted,
                reject_with: reject_with_status.as_ref().map(status),
            })
        }
        Some(config::Any::XffConfig(schema)) => forwarded(schema, &at, problems),
        _ => {
            let why = "Corvoy supports only custom_header and xff as original IP detection";
            problems.missing(&at, why);
            None
        }
    }
}

fn forwarded(schema: &config::XffConfig, at: &Path, problems: &mut Problems) -> Option<Detection> {
    let config::XffConfig { xff_num_trusted_hops, xff_trusted_cidrs, skip_xff_append } = schema;
    let appends = *skip_xff_append == Some(false);
    let Some(config::XffTrustedCidrs { cidrs: ranges }) = xff_trusted_cidrs else {
        return Some(Detection::Hops { hops: *xff_num_trusted_hops as usize, appends });
    };
    if *xff_num_trusted_hops > 0 {
        let why = "either xff_num_trusted_hops or xff_trusted_cidrs can be set";
        problems.error(&at.field("xff_num_trusted_hops"), why);
    }
    let ranges = cidrs(ranges, &at.field("xff_trusted_cidrs").field("cidrs"), problems);
    Some(Detection::TrustedProxies { ranges: ranges.into(), appends })
}
