//! Local replies: what this proxy says itself, status and body, in Envoy's words.

use crate::http1::{self, FieldName};
use crate::upstream::error::Error;

/// An answer made here.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) fields: Vec<(FieldName, Vec<u8>)>,
    pub(crate) closes: bool,
}
impl LocalReply {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self { status, body: body.as_bytes().to_vec(), fields: Vec::new(), closes: false }
    }
    pub(crate) fn closing(status: u16, body: &str) -> Self {
        Self { closes: true, ..Self::new(status, body) }
    }
    pub(crate) fn cluster_not_found(status: u16) -> Self {
        Self::new(status, "")
    }
    pub(crate) fn no_route() -> Self {
        Self::new(404, "")
    }
    pub(crate) fn refused(error: http1::Error) -> Self {
        Self::closing(error.status(), error.body())
    }
    pub(crate) fn request_header_timeout() -> Self {
        Self::closing(408, "request header timeout")
    }
    pub(crate) fn request_timeout() -> Self {
        Self::closing(408, "request timeout")
    }
    pub(crate) fn max_duration(complete: bool) -> Self {
        if complete {
            Self::new(504, "downstream duration timeout")
        } else {
            Self::closing(408, "downstream duration timeout")
        }
    }
    pub(crate) fn stream_idle(complete: bool) -> Self {
        if complete {
            Self::new(504, "stream timeout")
        } else {
            Self::closing(408, "stream timeout")
        }
    }
    pub(crate) fn upstream_timeout() -> Self {
        Self::new(504, "upstream request timeout")
    }
    pub(crate) fn per_try_timeout() -> Self {
        Self::new(504, "upstream request timeout")
    }
    pub(crate) fn no_healthy_upstream() -> Self {
        Self::new(503, "no healthy upstream")
    }
    pub(crate) fn upstream_reset(error: Error, after_retry: bool) -> Self {
        let mut reply = Self::new(error.status(), &error.body(after_retry));
        if error == Error::Overflow {
            reply.fields.push((FieldName::XEnvoyOverloaded, b"true".to_vec()));
        }
        reply
    }
    pub(crate) fn for_grpc(self) -> Self {
        self
    }
}
