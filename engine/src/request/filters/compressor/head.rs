//! What a compressor reads and changes in the head of a response.

use super::{Coding, Etag, Outcome};
use crate::http::{self, FieldName, Fields};

/// A content type without its parameters.
pub(super) fn essence(content_type: &[u8]) -> &[u8] {
    content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

pub(super) fn content_length(fields: &Fields) -> Option<u64> {
    fields.get(FieldName::ContentLength).and_then(http::content_length)
}

/// `cache-control: no-transform`
pub(super) fn forbids_transforms(fields: &Fields) -> bool {
    let mut values = fields.get_all(FieldName::CacheControl);
    values.any(|value| has_token(value, b"no-transform"))
}

pub(super) fn is_upgrade(fields: &Fields) -> bool {
    let mut values = fields.get_all(FieldName::Connection);
    fields.has(FieldName::Upgrade) && values.any(|value| has_token(value, b"upgrade"))
}

fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(token))
}

/// A cache must know that the response depends on what the client accepts.
pub(super) fn add_vary(fields: &mut Fields) {
    if !fields.get_all(FieldName::Vary).any(|value| has_token(value, b"accept-encoding")) {
        fields.join(FieldName::Vary, b", ", b"Accept-Encoding");
    }
}

/// A strong `etag` is that of the uncompressed representation.
pub(super) fn sanitize_etag(fields: &mut Fields, rule: Etag) {
    let Some(etag) = fields.get(FieldName::Etag) else { return };
    let is_weak = etag.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"w/"));
    if is_weak {
        return;
    }
    if rule == Etag::Weakened {
        let weak = [b"W/", etag].concat();
        fields.set(FieldName::Etag, &weak);
    } else {
        fields.remove(FieldName::Etag);
    }
}

/// `x-envoy-compression-status`. As in Envoy not every reason is told.
pub(super) fn tell_status(fields: &mut Fields, coding: Coding, outcome: Outcome) {
    let status = match outcome {
        Outcome::Compressed { length } => {
            let length = length.map(|length| length.to_string()).unwrap_or_default();
            &*format!("Compressed;OriginalLength={length}")
        }
        Outcome::ContentLengthTooSmall => "ContentLengthTooSmall",
        Outcome::ContentTypeNotAllowed => "ContentTypeNotAllowed",
        Outcome::EtagNotAllowed => "EtagNotAllowed",
        Outcome::StatusCodeNotAllowed => "StatusCodeNotAllowed",
        Outcome::Bodiless
        | Outcome::Disabled
        | Outcome::NotAccepted
        | Outcome::NotTransformable => return,
    };
    let status = format!("{};{status}", coding.name());
    fields.set_other(b"x-envoy-compression-status", status.as_bytes());
}
