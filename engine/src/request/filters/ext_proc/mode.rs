//! Which parts of a message the processor sees.

use super::proto;
use crate::request::filters::Way;

/// `ProcessingMode`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Mode {
    pub(super) request: Parts,
    pub(super) response: Parts,
}

/// What it sees of one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Parts {
    pub(super) headers: bool,
    pub(super) body: BodyMode,
    pub(super) trailers: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { headers: true, body: BodyMode::None, trailers: false }
    }
}

impl Parts {
    pub(super) const NOTHING: Self = Self { headers: false, body: BodyMode::None, trailers: false };
}

/// `BodySendMode`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum BodyMode {
    #[default]
    None = 0,
    /// Part by part, each of which it answers.
    Streamed = 1,
    /// As a whole, before the head goes on.
    Buffered = 2,
    /// Like that, but only as much as may be held.
    BufferedPartial = 3,
    /// Part by part, and it sends what goes on in its place.
    FullDuplex = 4,
}

impl Mode {
    pub(super) const NOTHING: Self = Self { request: Parts::NOTHING, response: Parts::NOTHING };

    pub(super) const fn of(self, way: Way) -> Parts {
        match way {
            Way::Request => self.request,
            Way::Response => self.response,
        }
    }

    /// Whether there is such a mode: in full duplex the processor sees trailers, otherwise it would not see
    /// the end of a message that has some.
    pub(super) fn is_possible(&self) -> bool {
        let is_possible = |parts: Parts| parts.body != BodyMode::FullDuplex || parts.trailers;
        is_possible(self.request) && is_possible(self.response)
    }

    /// What a processor asks for; none: it asks for something that there is not.
    pub(super) fn read(message: &proto::ProcessingMode) -> Option<Self> {
        let parts = |headers: i32, body, trailers| {
            Some(Parts {
                headers: headers != SKIP,
                body: BodyMode::read(body)?,
                trailers: trailers == SEND,
            })
        };
        let proto::ProcessingMode {
            request_header_mode,
            response_header_mode,
            request_body_mode,
            response_body_mode,
            request_trailer_mode,
            response_trailer_mode,
        } = *message;
        Some(Self {
            request: parts(request_header_mode, request_body_mode, request_trailer_mode)?,
            response: parts(response_header_mode, response_body_mode, response_trailer_mode)?,
        })
    }

    /// Whether this one is in the list. As in Envoy, the headers of the request do not count: they were sent.
    pub(super) fn is_among(&self, allowed: &[Self]) -> bool {
        allowed.iter().any(|mode| {
            let request = Parts { headers: self.request.headers, ..mode.request };
            request == self.request && mode.response == self.response
        })
    }
}

/// `HeaderSendMode`
const SEND: i32 = 1;
const SKIP: i32 = 2;

impl BodyMode {
    const fn read(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Streamed,
            2 => Self::Buffered,
            3 => Self::BufferedPartial,
            4 => Self::FullDuplex,
            _ => return None,
        })
    }

    /// Whether the length of the body is not known before all of it has passed.
    pub(super) const fn changes_length(self) -> bool {
        matches!(self, Self::Streamed | Self::BufferedPartial | Self::FullDuplex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_sent_by_default_and_trailers_are_not() {
        let mode = Mode::read(&proto::ProcessingMode::default());
        assert_eq!(mode, Some(Mode::default()));
        let skips = proto::ProcessingMode {
            request_header_mode: SKIP,
            response_trailer_mode: SEND,
            response_body_mode: 2,
            ..proto::ProcessingMode::default()
        };
        let mode = Mode::read(&skips).unwrap();
        assert!(!mode.request.headers && mode.response.headers && mode.response.trailers);
        assert_eq!(mode.response.body, BodyMode::Buffered);
        let unknown =
            proto::ProcessingMode { request_body_mode: 5, ..proto::ProcessingMode::default() };
        assert_eq!(Mode::read(&unknown), None);
    }

    #[test]
    fn the_headers_of_the_request_do_not_count_in_a_list_of_modes() {
        let buffered = Parts { body: BodyMode::Buffered, ..Parts::default() };
        let allowed = [Mode { request: buffered, ..Mode::default() }];
        let skipped = Parts { headers: false, ..buffered };
        assert!(Mode { request: skipped, ..Mode::default() }.is_among(&allowed));
        assert!(!Mode::default().is_among(&allowed));
        assert!(!Mode { request: buffered, response: buffered }.is_among(&allowed));
    }
}
