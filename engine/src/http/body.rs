//! How a body ends, and the rules for its trailers.

use super::head::Underscores;

/// The length of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// This many bytes; 0 for `Content-Length: 0`.
    Length(u64),
    /// Chunks, until the last one.
    Chunked,
    /// Everything until the connection is closed. Responses only.
    UntilClose,
}

/// What trailers may contain, and whether they are passed on.
#[derive(Clone, Copy, Debug)]
pub struct TrailerRules {
    /// The most bytes, as received.
    pub bytes_max: usize,
    /// The most fields.
    pub fields_max: usize,
    /// What happens to a trailer with an underscore in its name.
    pub underscores: Underscores,
    /// Whether trailers are passed on.
    pub kept: bool,
}
