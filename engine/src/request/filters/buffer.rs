//! `buffer`: a request goes on when all of it has been received, with its length.

use super::{Context, Flow, RouteConfig, Wait};
use crate::http::{BodyLength, FieldName};

/// The filter.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// A request with a larger body is answered with 413.
    pub(super) bytes_max: usize,
}

/// What a route says.
#[derive(Clone, Copy, Debug)]
pub enum PerRoute {
    /// Its requests are not buffered.
    Disabled,
    /// With this limit instead.
    Buffer(Buffer),
}

impl Buffer {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let per_route = cx.configs.iter().find_map(|config| match &**config {
            RouteConfig::Buffer(config) => Some(*config),
            _ => None,
        });
        let Self { bytes_max } = match per_route {
            Some(PerRoute::Disabled) => return Flow::Continue,
            Some(PerRoute::Buffer(other)) => other,
            None => *self,
        };
        if matches!(cx.core.body, BodyLength::None | BodyLength::Length(0)) {
            return Flow::Continue;
        }
        if !cx.held.has_ended() {
            return Flow::Wait(Wait::Body { bytes_max });
        }
        if let BodyLength::Chunked = cx.core.body {
            let length = cx.held.data.len() as u64;
            let mut digits = itoa::Buffer::new();
            let fields = &mut cx.core.heads.request.fields;
            fields.set(FieldName::ContentLength, digits.format(length).as_bytes());
            cx.core.body = BodyLength::Length(length);
        }
        Flow::Continue
    }
}
