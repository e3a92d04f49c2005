//! HPACK (RFC 7541): header blocks to fields, and back.
//!
//! A [`Decoder`] and an [`Encoder`] belong to one direction of one connection each. They know nothing of
//! frames (the connection joins CONTINUATIONs, and bounds them) and do not judge fields: which names and
//! values a request may have is decided elsewhere.
//!
//! Invariants: the table of a decoder is that of the peer's encoder after every block, however few of its
//! fields were wanted; and no peer makes a table larger than its announced size.

mod decoder;
mod encoder;
mod field;
mod huffman;
mod input;
mod static_table;
mod table;

pub use decoder::Decoder;
pub use encoder::{Encoder, Strings};
pub use field::{Field, Pseudo};

#[cfg(test)]
mod tests;

/// The size of a dynamic table until SETTINGS change it (RFC 9113 §6.5.2), in the bytes of RFC 7541 §4.1.
pub const DEFAULT_TABLE_SIZE: usize = 4096;

/// What is wrong with a header block. Each of them ends the connection with COMPRESSION_ERROR: the tables of
/// both sides may differ from here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The block ends within a field.
    #[error("truncated header block")]
    Truncated,
    /// An integer that does not fit 32 bits.
    #[error("integer too large")]
    Integer,
    /// The index 0, or one behind the end of the tables.
    #[error("index outside of the tables")]
    Index,
    /// A code that is not in the Huffman table, the end of the string included.
    #[error("invalid Huffman code")]
    HuffmanCode,
    /// Padding of eight bits or more, or other than ones.
    #[error("invalid Huffman padding")]
    HuffmanPadding,
    /// A table size update behind a field.
    #[error("table size update within a header block")]
    SizeUpdatePlace,
    /// A table size update above the announced size.
    #[error("table size update above the limit")]
    SizeUpdateTooLarge,
    /// The announced size was lowered, and the block does not begin with a table size update.
    #[error("table size update missing")]
    SizeUpdateMissing,
}
