//! What happens to one request between the client's and the origin's connection.

pub mod headers;
