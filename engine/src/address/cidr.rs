//! Ranges of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cidr {
    /// An address of the range.
    pub address: IpAddr,
    /// The number of leading bits that the addresses of the range share.
    pub prefix_len: u8,
}

impl Cidr {
    /// The private networks of RFC 1918 and RFC 4193 and the loopback addresses, as in Envoy.
    pub const PRIVATE: [Self; 6] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), prefix_len: 8 },
        Self { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), prefix_len: 12 },
        Self { address: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), prefix_len: 16 },
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_len: 32 },
        Self { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), prefix_len: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_len: 128 },
    ];

    /// All addresses.
    pub const ALL: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 0 },
        Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 },
    ];

    /// The range with the bits of its address cleared that its addresses do not share: two ranges are
    /// the same if these are equal.
    #[must_use]
    pub fn normalized(self) -> Self {
        let Self { address, prefix_len } = self;
        match address {
            IpAddr::V4(address) => {
                let prefix_len = prefix_len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
                let address = Ipv4Addr::from(u32::from(address) & mask);
                Self { address: address.into(), prefix_len }
            }
            IpAddr::V6(address) => {
                let prefix_len = prefix_len.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
                let address = Ipv6Addr::from(u128::from(address) & mask);
                Self { address: address.into(), prefix_len }
            }
        }
    }

    /// Whether the address is in the range. An IPv4 address is in no IPv6 range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = u32::from(ours) ^ u32::from(theirs);
                differing.leading_zeros() >= u32::from(self.prefix_len).min(32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = u128::from(ours) ^ u128::from(theirs);
                differing.leading_zeros() >= u32::from(self.prefix_len).min(128)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_the_addresses_that_share_its_prefix() {
        let range = |address: &str, prefix_len| Cidr { address: ip(address), prefix_len };
        assert!(range("10.0.0.0", 8).contains(ip("10.255.0.1")));
        assert!(!range("10.0.0.0", 8).contains(ip("11.0.0.1")));
        assert!(range("10.1.2.3", 32).contains(ip("10.1.2.3")));
        assert!(range("0.0.0.0", 0).contains(ip("255.1.2.3")));
        assert!(range("fd00::", 8).contains(ip("fdff::1")));
        assert!(!range("::", 0).contains(ip("10.0.0.1")));
    }

    #[test]
    fn ranges_are_the_same_if_their_prefixes_are() {
        let range = |address: &str, prefix_len| Cidr { address: ip(address), prefix_len };
        assert_eq!(range("10.1.2.3", 8).normalized(), range("10.0.0.0", 8));
        assert_eq!(range("10.1.2.3", 0).normalized(), range("0.0.0.0", 0));
        assert_eq!(range("10.1.2.3", 33).normalized(), range("10.1.2.3", 32));
        assert_eq!(range("fd01::1", 8).normalized(), range("fd00::", 8));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
