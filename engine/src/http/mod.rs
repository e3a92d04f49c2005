//! What all versions of HTTP share: heads as ranges in one buffer, field names, methods, and how a
//! body ends.
//!
//! This is not a codec: `http1/` parses and encodes heads. It has no I/O, no clock and no
//! configuration.
//!
//! Invariant: a head means the same whichever codec has parsed it.

pub(crate) mod body;
pub(crate) mod byte_set;
pub(crate) mod field_name;
pub(crate) mod fields;
pub(crate) mod grpc;
pub(crate) mod head;
pub mod header_key_format;
mod hop_by_hop;
mod joined;
pub(crate) mod method;
mod reject;

pub(crate) use body::content_length;
pub use body::{BodyLength, EndStream, Fault, Intake, More, TrailerRules};
pub(crate) use byte_set::TOKEN;
pub use field_name::{FieldName, FieldSet};
pub use fields::{Field, Fields, Indexing, Line, Span};
pub(crate) use head::members;
pub use head::{HeadLimits, RequestHead, ResponseHead, Scheme, Underscores, Version};
pub use hop_by_hop::{
    HOP_BY_HOP, HOP_BY_HOP_OF_REQUESTS, HOP_BY_HOP_OF_RESPONSES, HOP_BY_HOP_OF_TRAILERS,
    HOP_BY_HOP_OF_UPGRADED, HOP_BY_HOP_OF_UPGRADES, NEVER_TRAILERS,
};
pub use joined::{JOINED_IN_REQUESTS, JOINED_IN_RESPONSES};
pub use method::Method;
pub use reject::{Misdeed, Reject};
