//! The HTTP/1 codec: heads, body framing, chunks, and their encoding.
//!
//! It is pure: no I/O, no clock, no configuration, and no allocation per message once its
//! buffers are warm. The driver appends what it received to [`RequestHead::received`], asks
//! [`RequestHead::parse`], and asks [`framing`] where the body ends. It is not the policy of a
//! connection manager (`downstream/normalize.rs`), nor the choice of when to close.
//!
//! Invariant: what is sent on is what the parsed model says, byte for byte, also where received lines
//! are copied because they say just that; and a message whose end two readers could see differently
//! is refused.

mod byte_set;
pub mod chunked;
pub mod encode;
mod error;
mod field_name;
mod fields;
pub mod framing;
mod head;
mod joined;
mod method;
pub mod names;
mod parse;
mod plain;
mod scan;

pub(crate) use byte_set::TOKEN;
pub use error::Error;
pub use field_name::{FieldName, FieldSet};
pub use fields::{Field, Fields, Line, Span};
pub use framing::BodyLength;
pub(crate) use head::members;
pub use head::{HeadLimits, RequestHead, ResponseHead, Scheme, Underscores, Version};
pub use joined::{JOINED_IN_REQUESTS, JOINED_IN_RESPONSES};
pub use method::Method;

#[cfg(test)]
mod tests;
