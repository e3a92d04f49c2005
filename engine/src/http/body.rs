//! How a body ends, and what may follow it: what both codecs say of a body.

use super::head::Underscores;

/// The length of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// So many bytes, 0 where a `Content-Length: 0` says so.
    Length(u64),
    /// Chunks, until the last one.
    Chunked,
    /// Everything until the connection ends. Responses only.
    UntilClose,
}

/// What may be said in trailers, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct TrailerRules {
    /// The most bytes, as received.
    pub bytes_max: usize,
    /// The most fields.
    pub fields_max: usize,
    /// What is done to one with an underscore in the name.
    pub underscores: Underscores,
    /// Whether they are kept for the next hop.
    pub kept: bool,
}
