//! Addresses of connections, and ranges of them. Pure: no name is resolved here.

mod cidr;
pub(crate) mod compile;

pub use cidr::Cidr;
