//! Schema → criteria of a filter chain.

use corvoy_config::{self as config, Path, Problems};

use super::{Criteria, SourceType};
use crate::address;

/// Compiles the criteria of a chain.
pub fn criteria(wanted: &config::FilterChainMatch, at: &Path, problems: &mut Problems) -> Criteria {
    let config::FilterChainMatch {
        destination_port,
        prefix_ranges,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = wanted;
    let mut ranges = |field: &str, ranges: &[config::CidrRange]| {
        address::compile::cidrs(ranges, &at.field(field), problems)
    };
    let destinations = ranges("prefix_ranges", prefix_ranges);
    let direct_sources = ranges("direct_source_prefix_ranges", direct_source_prefix_ranges);
    let sources = ranges("source_prefix_ranges", source_prefix_ranges);
    // The rules of the configuration keep ports within their range.
    let port = |port: &u32| u16::try_from(*port).ok();
    Criteria {
        destination_port: destination_port.as_ref().and_then(port),
        destinations,
        server_names: self::server_names(server_names, &at.field("server_names"), problems),
        transport_protocol: transport_protocol.clone(),
        application_protocols: application_protocols.clone(),
        direct_sources,
        source_type: match source_type {
            config::ConnectionSourceType::Any => SourceType::Any,
            config::ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
            config::ConnectionSourceType::External => SourceType::External,
        },
        sources,
        source_ports: source_ports.iter().filter_map(port).collect(),
    }
}

/// In lower case, and wildcards without their asterisk.
fn server_names(names: &[String], at: &Path, problems: &mut Problems) -> Vec<String> {
    let mut compiled = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let name = name.to_ascii_lowercase();
        let suffix = name.strip_prefix('*').filter(|suffix| suffix.starts_with('.'));
        let name = suffix.map_or(name.as_str(), |suffix| suffix);
        if name.contains('*') {
            let why = "a wildcard can only replace whole labels at the beginning: `*.example.com`";
            problems.error(&at.index(i), why);
        }
        compiled.push(name.to_owned());
    }
    compiled
}
