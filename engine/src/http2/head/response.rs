//! The fields of a response.

use super::{Budget, Flaw, ObsText, Section, is_name, value_of};
use crate::http::{
    BodyLength, EndStream, FieldName, HOP_BY_HOP, HeadLimits, Method, ResponseHead, Version,
    content_length,
};
use crate::http2::hpack::Field;

/// Takes the fields of a block, one after the other, into a head.
#[derive(Debug)]
pub struct ResponseDecoder<'a> {
    head: &'a mut ResponseHead,
    budget: Budget,
    status: Option<u16>,
    content_length: Option<u64>,
    section: Section,
}

impl<'a> ResponseDecoder<'a> {
    /// For a response whose head is `head`, which is empty.
    pub const fn new(head: &'a mut ResponseHead, limits: &HeadLimits, obs_text: ObsText) -> Self {
        let budget = Budget::new(limits.bytes_max, limits.fields_max, obs_text);
        Self { head, budget, status: None, content_length: None, section: Section::Pseudo }
    }

    /// Takes the next field.
    pub fn take(&mut self, field: Field<'_>) {
        if self.budget.admit(&field) && self.taken(&field).is_none() {
            self.budget.fail(Flaw::Field);
        }
    }

    fn taken(&mut self, field: &Field<'_>) -> Option<()> {
        let value = value_of(field)?;
        match (field.name, self.section) {
            (b":status", Section::Pseudo) if self.status.is_none() => {
                self.status = Some(status(value)?);
                return Some(());
            }
            ([b':', ..], _) => return None,
            _ => self.section = Section::Fields,
        }
        if !is_name(field) || HOP_BY_HOP.has(field.id) {
            return None;
        }
        if field.id == FieldName::ContentLength {
            if self.content_length.is_some() {
                return None;
            }
            self.content_length = Some(content_length(value)?);
        }
        self.head.fields.append_decoded(field.id, field.name, value, field.indexing);
        Some(())
    }

    /// Completes the head of a response to `method`; returns how its body ends.
    ///
    /// # Errors
    /// If the response is malformed, or exceeds a limit.
    pub fn finish(self, method: Method, end: EndStream) -> Result<BodyLength, Flaw> {
        if let Some(flaw) = self.budget.flaw {
            return Err(flaw);
        }
        self.head.status = self.status.ok_or(Flaw::Messaging)?;
        self.head.version = Version::Http2;
        //= rfc9110#section-9.3.6: `content-length` says nothing about a tunnel.
        if method == Method::Connect && (200..300).contains(&self.head.status) {
            self.head.fields.remove(FieldName::ContentLength);
            let is_over = end == EndStream::Yes;
            return Ok(if is_over { BodyLength::None } else { BodyLength::Chunked });
        }
        let has_no_body =
            method == Method::Head || matches!(self.head.status, 100..=199 | 204 | 304);
        match (end, self.content_length) {
            (EndStream::Yes, Some(1..)) if !has_no_body => Err(Flaw::Messaging),
            // An interim response is followed by another one.
            (EndStream::Yes, _) if self.head.is_interim() => Err(Flaw::Messaging),
            (EndStream::Yes, _) => Ok(BodyLength::None),
            (EndStream::No, Some(length)) if !has_no_body => Ok(BodyLength::Length(length)),
            (EndStream::No, _) => Ok(BodyLength::Chunked),
        }
    }
}

/// RFC 9110 §15: three digits, from 100 on. Envoy passes 000 on.
fn status(text: &[u8]) -> Option<u16> {
    let [first @ b'1'..=b'9', second @ b'0'..=b'9', third @ b'0'..=b'9'] = text else {
        return None;
    };
    let digit = |digit: &u8| u16::from(digit - b'0');
    Some(digit(first) * 100 + digit(second) * 10 + digit(third))
}
