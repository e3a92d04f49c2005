//! The fields of a request.

use super::{Budget, Flaw, ObsText, Section, UnderscoreRule, is_name, value_of};
use crate::http::{
    BodyLength, EndStream, FieldName, HOP_BY_HOP, HeadLimits, Indexing, Method, RequestHead,
    Scheme, Span, TOKEN, Underscores, Version, content_length,
};
use crate::http2::hpack::Field;

/// Takes the fields of a block, one after the other, into a head.
#[derive(Debug)]
pub struct RequestDecoder<'a> {
    head: &'a mut RequestHead,
    budget: Budget,
    underscores: UnderscoreRule,
    extended_connect: ExtendedConnect,
    method: Option<Span>,
    path: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    protocol: Option<Span>,
    content_length: Option<u64>,
    /// The crumbs of cookies so far, joined.
    cookie: Vec<u8>,
    /// Never, if that is so of one of them.
    cookie_indexing: Indexing,
    section: Section,
}

/// Whether extended CONNECT (RFC 8441) was announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExtendedConnect {
    /// It was.
    Allowed,
    /// It was not.
    Refused,
}

/// What a request may have.
#[derive(Clone, Copy, Debug)]
pub struct RequestRules {
    /// The most bytes of the name and the value of one field.
    pub field_max: usize,
    /// What happens to fields with underscores in their names.
    pub underscores: Underscores,
    /// Whether it may be an extended CONNECT.
    pub extended_connect: ExtendedConnect,
    /// Whether values may have bytes above 0x7f.
    pub obs_text: ObsText,
}

/// A request that was decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// How its body ends.
    pub body: BodyLength,
    /// How many fields were dropped because of underscores in their names.
    pub dropped_for_underscores: u64,
}

impl<'a> RequestDecoder<'a> {
    /// For a request whose head is `head`, which is empty.
    pub fn new(head: &'a mut RequestHead, limits: &HeadLimits, rules: RequestRules) -> Self {
        let RequestRules { field_max, underscores, extended_connect, obs_text } = rules;
        let budget = Budget::new(limits.bytes_max, limits.fields_max, obs_text);
        Self {
            head,
            budget: budget.with_field_max(field_max),
            underscores: UnderscoreRule::new(underscores),
            extended_connect,
            method: None,
            path: None,
            scheme: None,
            authority: None,
            protocol: None,
            content_length: None,
            cookie: Vec::new(),
            cookie_indexing: Indexing::Allowed,
            section: Section::Pseudo,
        }
    }

    /// Takes the next field.
    pub fn take(&mut self, field: Field<'_>) {
        if !self.budget.admit(&field) {
            return;
        }
        let taken = match (field.name, self.section) {
            ([b':', ..], Section::Pseudo) => self.take_pseudo(&field),
            ([b':', ..], Section::Fields) => None,
            _ => self.take_field(&field),
        };
        if taken.is_none() {
            self.budget.fail(Flaw::Field);
        }
    }

    fn take_pseudo(&mut self, field: &Field<'_>) -> Option<()> {
        let value = value_of(field)?;
        let place = match field.name {
            b":method" if TOKEN.has_all(value) => &mut self.method,
            b":path" => &mut self.path,
            b":scheme" if is_scheme(value) => &mut self.scheme,
            b":authority" if is_authority(value) => &mut self.authority,
            b":protocol" if !TOKEN.has_all(value) => return None,
            b":protocol" if self.extended_connect == ExtendedConnect::Allowed => &mut self.protocol,
            _ => return None,
        };
        if place.is_some() || value.is_empty() {
            return None;
        }
        *place = Some(self.head.fields.keep(value));
        Some(())
    }

    fn take_field(&mut self, field: &Field<'_>) -> Option<()> {
        self.section = Section::Fields;
        let value = value_of(field)?;
        if !is_name(field) || HOP_BY_HOP.has(field.id) {
            return None;
        }
        if !self.underscores.admits(field, &mut self.budget) {
            return Some(());
        }
        match field.id {
            //= rfc9113#section-8.2.2: "it MUST NOT contain any value other than "trailers"".
            FieldName::Te if !value.eq_ignore_ascii_case(b"trailers") => return None,
            FieldName::Cookie => {
                //= rfc9113#section-8.2.3: crumbs are joined before they are passed to HTTP/1.
                if !self.cookie.is_empty() && !value.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(value);
                if field.indexing == Indexing::Never {
                    self.cookie_indexing = Indexing::Never;
                }
                return Some(());
            }
            FieldName::ContentLength => {
                if self.content_length.is_some() {
                    return None;
                }
                self.content_length = Some(content_length(value)?);
            }
            FieldName::Host if self.head.fields.has(FieldName::Host) || !is_authority(value) => {
                return None;
            }
            _ => {}
        }
        self.head.fields.append_decoded(field.id, field.name, value, field.indexing);
        Some(())
    }

    /// Completes the head.
    ///
    /// # Errors
    /// If the request is malformed, or exceeds a limit.
    pub fn finish(mut self, end: EndStream) -> Result<Decoded, Flaw> {
        if let Some(flaw) = self.budget.flaw {
            return Err(flaw);
        }
        self.finish_pseudo()?;
        if !self.cookie.is_empty() {
            let (id, indexing) = (FieldName::Cookie, self.cookie_indexing);
            self.head.fields.append_decoded(id, b"cookie", &self.cookie, indexing);
        }
        let is_tunnel = self.protocol.is_some() || self.head.method == Method::Connect;
        let body = match (end, self.content_length) {
            _ if is_tunnel => BodyLength::None,
            //= rfc9113#section-8.1.1: a content-length that is not that of the body.
            (EndStream::Yes, Some(1..)) => return Err(Flaw::Messaging),
            (EndStream::Yes, _) => BodyLength::None,
            (EndStream::No, Some(length)) => BodyLength::Length(length),
            (EndStream::No, None) => BodyLength::Chunked,
        };
        Ok(Decoded { body, dropped_for_underscores: self.underscores.dropped })
    }

    //= rfc9113#section-8.3.1: which pseudo-headers there are.
    fn finish_pseudo(&mut self) -> Result<(), Flaw> {
        let head = &mut *self.head;
        head.version = Version::Http2;
        let method = self.method.ok_or(Flaw::Messaging)?;
        head.method_name = method;
        head.method = Method::of(method.of(&head.fields.bytes));
        // As in Envoy, `:authority` goes before `host`.
        if let Some(authority) = self.authority {
            head.fields.set_copy(FieldName::Host, authority);
        }
        if !head.fields.has(FieldName::Host) {
            return Err(Flaw::Messaging);
        }
        let is_connect = head.method == Method::Connect;
        if is_connect && self.protocol.is_none() {
            if self.path.is_some() || self.scheme.is_some() || self.authority.is_none() {
                return Err(Flaw::Messaging);
            }
            head.target = self.authority.unwrap_or_default();
            return Ok(());
        }
        if self.protocol.is_some() && !is_connect {
            return Err(Flaw::Field);
        }
        let (path, scheme) = (self.path.ok_or(Flaw::Messaging)?, self.scheme);
        let scheme = scheme.ok_or(Flaw::Messaging)?.of(&head.fields.bytes);
        head.scheme = match scheme {
            scheme if scheme.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            scheme if scheme.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            _ => None,
        };
        match path.of(&head.fields.bytes) {
            // White space would end the target in the request line of HTTP/1.
            [b'/', rest @ ..] if !rest.iter().any(|byte| matches!(byte, b' ' | b'\t')) => {}
            b"*" if head.method == Method::Options => {}
            _ => return Err(Flaw::Field),
        }
        head.target = path;
        if let Some(protocol) = self.protocol {
            // RFC 8441 §5: the same as an upgrade of HTTP/1, which it is from here on. The order is Envoy's.
            let protocol = protocol.of(&head.fields.bytes).to_vec();
            head.method = Method::Get;
            head.fields.append(FieldName::Upgrade, &protocol);
            head.fields.append(FieldName::Connection, b"upgrade");
        }
        Ok(())
    }
}

/// RFC 3986 §3.1
fn is_scheme(text: &[u8]) -> bool {
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(is_rest)
}

/// The characters that Envoy accepts in an authority.
fn is_authority(text: &[u8]) -> bool {
    let is_of_it =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    !text.is_empty() && text.iter().all(is_of_it)
}
