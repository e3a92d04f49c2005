//! `local_reply_config`: rewrites local replies before they are sent.
//!
//! The first mapper whose filter matches adds headers and changes status and body. Then the body is
//! formatted. Filters see the reply before any change.

pub mod compile;

use bytes::Bytes;

use super::reply::LocalReply;
use super::route::{HeaderMutations, Scratch};
use crate::access_log::filter::Filter;
use crate::flags::{Flag, Flags};
use crate::format::{Format, Inputs, StreamInfo};
use crate::http::{FieldName, RequestHead, ResponseHead};

/// The compiled `LocalReplyConfig`.
#[derive(Clone, Debug, Default)]
pub struct ReplyRewrite {
    mappers: Vec<Mapper>,
    /// For replies whose mapper has no format, or that no mapper matches.
    format: Option<BodyFormat>,
}

/// A `ResponseMapper`.
#[derive(Clone, Debug)]
struct Mapper {
    filter: Filter,
    status: Option<u16>,
    body: Option<Bytes>,
    format: Option<BodyFormat>,
    headers: HeaderMutations,
}

/// A `SubstitutionFormatString` with its content type.
#[derive(Clone, Debug)]
pub struct BodyFormat {
    text: Format,
    content_type: Box<[u8]>,
}

impl BodyFormat {
    /// The text alone.
    pub(super) fn text(&self, inputs: &Inputs<'_>) -> Bytes {
        let mut text = Vec::new();
        self.text.write(inputs, &mut text);
        text.into()
    }

    /// Makes the body of a reply; the body that it has is one of the inputs.
    pub(super) fn apply(
        &self,
        reply: &mut LocalReply,
        request: &RequestHead,
        stream: &dyn StreamInfo,
    ) {
        let inputs =
            Inputs { request: Some(request), local_reply_body: &reply.body, ..Inputs::new(stream) };
        let mut body = Vec::new();
        self.text.write(&inputs, &mut body);
        reply.body = body.into();
        // As in Envoy, any other type than that of a text precedes the length.
        if *self.content_type != *b"text/plain" {
            reply.add_field(FieldName::ContentType, &self.content_type);
        }
    }
}

impl ReplyRewrite {
    /// Whether replies are not rewritten at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mappers.is_empty() && self.format.is_none()
    }

    /// Rewrites a reply and the head begun for it. `stream` gives the stream info as it is with a
    /// response status; there is no request if it could not be parsed.
    pub(super) fn apply<S: StreamInfo>(
        &self,
        reply: &mut LocalReply,
        head: &mut ResponseHead,
        request: Option<&RequestHead>,
        random: u64,
        stream: impl Fn(u16) -> S,
        scratch: &mut Scratch,
    ) {
        let original_type = head.fields.get(FieldName::ContentType).map(<[u8]>::to_vec);
        let original_body = reply.body.clone();
        let mut format = self.format.as_ref();
        let before = stream(reply.status);
        let inputs = Inputs { request, ..Inputs::new(&before) };
        let admits = |mapper: &&Mapper| mapper.filter.passes(&inputs, random);
        if let Some(mapper) = self.mappers.iter().find(admits) {
            if let Some(body) = &mapper.body {
                reply.body = body.clone();
            }
            mapper.headers.apply_to_response(head, request, &before, scratch);
            reply.status = mapper.status.unwrap_or(reply.status);
            head.status = reply.status;
            format = mapper.format.as_ref().or(format);
        }
        let Some(format) = format else {
            if reply.body != original_body && has_type(head, original_type.as_deref()) {
                reply.content_type = Some(b"text/plain"[..].into());
            }
            return;
        };
        let after = stream(reply.status);
        let inputs = Inputs {
            request,
            response: Some(head),
            local_reply_body: &reply.body,
            ..Inputs::new(&after)
        };
        let mut body = Vec::new();
        format.text.write(&inputs, &mut body);
        reply.body = body.into();
        let has_changed = reply.body != original_body && has_type(head, original_type.as_deref());
        if has_changed || !head.fields.has(FieldName::ContentType) {
            reply.content_type = Some(format.content_type.clone());
        }
    }
}

/// Whether the content type is unchanged; one that a mapper has set is kept.
fn has_type(head: &ResponseHead, original: Option<&[u8]>) -> bool {
    head.fields.get(FieldName::ContentType) == original
}

/// The flags that a rewrite sees: Envoy sets those for a protocol error of the client and for a local rate
/// limit only after the reply.
pub(super) fn visible_flags(flags: Flags) -> Flags {
    let is_late = flags.has(Flag::DownstreamProtocolError) || flags.has(Flag::RateLimited);
    if is_late { Flags::NONE } else { flags }
}
