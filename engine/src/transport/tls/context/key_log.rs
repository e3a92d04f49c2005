//! `key_log`: writes the secrets of connections to a file, in the NSS format that Wireshark reads.
//! It is for debugging; connections that write to it wait for the file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

/// An open file for secrets.
#[derive(Debug)]
pub struct KeyLog {
    file: Arc<File>,
    local: Vec<Range>,
    remote: Vec<Range>,
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// The first address.
    pub address: IpAddr,
    /// How many bits are common.
    pub prefix: u32,
}

impl Range {
    fn contains(self, other: IpAddr) -> bool {
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix)).unwrap_or(0);
                ours.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.prefix)).unwrap_or(0);
                ours.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl KeyLog {
    /// Writes to a file that is open for appending. Empty lists of addresses stand for all.
    #[must_use]
    pub const fn new(file: Arc<File>, local: Vec<Range>, remote: Vec<Range>) -> Self {
        Self { file, local, remote }
    }

    /// Whether the secrets of a connection between these addresses are written; none: a unix socket.
    #[must_use]
    pub fn covers(&self, local: Option<IpAddr>, remote: Option<IpAddr>) -> bool {
        let covers = |ranges: &[Range], address: Option<IpAddr>| {
            ranges.is_empty()
                || address.is_some_and(|it| ranges.iter().any(|range| range.contains(it)))
        };
        covers(&self.local, local) && covers(&self.remote, remote)
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        for byte in client_random {
            let _ = write!(line, "{byte:02x}");
        }
        line.push(' ');
        for byte in secret {
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        // A connection does not fail because its secrets cannot be written.
        drop((&*self.file).write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{KeyLog, Range};

    #[test]
    fn only_connections_between_the_addresses_are_logged() {
        let range = |text: &str, prefix| Range { address: text.parse().unwrap(), prefix };
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = Arc::new(file.reopen().unwrap());
        let log = KeyLog::new(opened, vec![range("10.0.0.0", 8)], vec![range("::", 0)]);
        let address = |text: &str| Some(text.parse().unwrap());
        assert!(log.covers(address("10.1.2.3"), address("2001:db8::1")));
        assert!(log.covers(address("::ffff:10.1.2.3"), address("::1")));
        assert!(!log.covers(address("11.1.2.3"), address("::1")));
        assert!(!log.covers(address("10.1.2.3"), address("127.0.0.1")));
        assert!(!log.covers(None, address("::1")));
        rustls::KeyLog::log(&log, "LABEL", &[1, 0xab], &[2]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "LABEL 01ab 02\n");
    }
}
