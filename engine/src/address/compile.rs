//! Schema → ranges of addresses.

use corvoy_config::{self as config, Path, Problems};

use super::Cidr;

/// Compiles the ranges of the list at `at`. A prefix that is longer than the address is the whole
/// address, as in Envoy.
pub(crate) fn cidrs(ranges: &[config::CidrRange], at: &Path, problems: &mut Problems) -> Vec<Cidr> {
    let mut compiled = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        let config::CidrRange { address_prefix, prefix_len } = range;
        match address_prefix.parse() {
            Ok(address) => compiled.push(Cidr {
                address,
                prefix_len: prefix_len.map_or(0, |len| u8::try_from(len).unwrap_or(u8::MAX)),
            }),
            Err(_) => {
                let message = format!("'{address_prefix}' is not an IP address");
                problems.error(&at.index(index).field("address_prefix"), message);
            }
        }
    }
    compiled
}
