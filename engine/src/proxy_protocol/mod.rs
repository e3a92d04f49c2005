//! The PROXY protocol, versions 1 and 2: the addresses of a connection that a proxy accepted, announced
//! at the beginning of its connection to the next one.
//!
//! Pure: it parses and writes bytes, and does not decide who may announce addresses.
//!
//! Invariant: a header is accepted only as a whole, and its length is bounded.

mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;

pub use parse::{Malformed, Signature, parse, signature};
pub use write::{append, write};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Which versions are accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of the versions")]
pub struct Versions {
    pub v1: bool,
    pub v2: bool,
}

impl Versions {
    /// Both.
    pub const BOTH: Self = Self { v1: true, v2: true };

    /// Whether this version is among them.
    #[must_use]
    pub const fn include(self, version: Version) -> bool {
        match version {
            Version::V1 => self.v1,
            Version::V2 => self.v2,
        }
    }
}

/// A complete header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// Its length in bytes.
    pub length: usize,
    /// The announced addresses. `None`: those of the connection itself (`LOCAL`, `UNKNOWN`).
    pub addresses: Option<Addresses>,
    /// The type-length-values behind the addresses, in order; version 2 only.
    pub tlvs: Vec<Tlv>,
}

/// The two ends of a connection, of the same family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The client's.
    pub source: SocketAddr,
    /// The one that the client connected to.
    pub destination: SocketAddr,
}

/// A type-length-value.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Tlv {
    /// `PP2_TYPE_…`
    pub kind: u8,
    /// At most 65,535 bytes.
    pub value: Vec<u8>,
}

/// Which values are passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlvTypes {
    /// All.
    All,
    /// Those of these types.
    Only(Box<[u8]>),
}

impl TlvTypes {
    /// Whether values of this type are passed on.
    #[must_use]
    pub fn include(&self, kind: u8) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(&kind),
        }
    }
}

/// How every header of version 2 begins.
const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How every header of version 1 begins.
const SIGNATURE_V1: &[u8] = b"PROXY ";

/// The longest header of version 1, with its line end. The specification says 107, Envoy 108.
const LINE_MAX: usize = 108;
