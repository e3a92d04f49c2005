//! The hash functions of Envoy: the same input has the same hash there.
//!
//! Not for hash tables of our own, which use the standard library's.

mod murmur;
mod xxh64;

pub use murmur::murmur_hash_2;
pub use xxh64::{xxh64, xxh64_seeded};
