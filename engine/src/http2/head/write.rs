//! Heads and trailers to header blocks. The fields of a connection of HTTP/1 are left out.

use crate::http::{
    FieldName, Fields, HOP_BY_HOP, Indexing, Method, RequestHead, ResponseHead, Scheme,
};
use crate::http2::hpack::{Encoder, Field, Pseudo};

/// Writes the block of a request. The order of the pseudo-headers is Envoy's.
pub fn request(encoder: &mut Encoder, head: &RequestHead, out: &mut Vec<u8>) {
    encoder.begin(out);
    encoder.pseudo(Pseudo::Authority, head.authority().unwrap_or_default(), out);
    if head.method == Method::Connect {
        encoder.pseudo(Pseudo::Method, b"CONNECT", out);
    } else {
        encoder.pseudo(Pseudo::Path, head.target(), out);
        let scheme = head.scheme.unwrap_or(Scheme::Http).as_str().as_bytes();
        match head.upgrade() {
            //= rfc8441#section-4: an upgrade is a CONNECT with the protocol.
            Some(protocol) => {
                encoder.pseudo(Pseudo::Method, b"CONNECT", out);
                encoder.pseudo(Pseudo::Scheme, scheme, out);
                encoder.pseudo(Pseudo::Protocol, protocol, out);
            }
            None => {
                encoder.pseudo(Pseudo::Method, head.method_name(), out);
                encoder.pseudo(Pseudo::Scheme, scheme, out);
            }
        }
    }
    fields(encoder, &head.fields, FieldName::Host, out);
}

/// Writes the block of a response.
pub fn response(encoder: &mut Encoder, head: &ResponseHead, out: &mut Vec<u8>) {
    encoder.begin(out);
    let mut digits = itoa::Buffer::new();
    //= rfc8441#section-5: a protocol that was switched to is a 200; HTTP/2 has no 101.
    let status = if head.status == 101 { 200 } else { head.status };
    encoder.pseudo(Pseudo::Status, digits.format(status).as_bytes(), out);
    fields(encoder, &head.fields, FieldName::Connection, out);
}

/// Writes the block of trailers, which are given as lines.
pub fn trailers(encoder: &mut Encoder, mut lines: &[u8], out: &mut Vec<u8>) {
    encoder.begin(out);
    while let Some(end) = memchr::memmem::find(lines, b"\r\n") {
        let (line, rest) = lines.split_at(end);
        lines = rest.get(2..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        // The names of trailers that come from HTTP/1 are as received.
        let name = name.to_ascii_lowercase();
        let id = FieldName::of(&name);
        // A line does not say whether its value was a secret.
        let indexing = if id == FieldName::Other { Indexing::Never } else { Indexing::Allowed };
        field(encoder, &Field { id, name: &name, value, indexing }, out);
    }
}

fn fields(encoder: &mut Encoder, fields: &Fields, but: FieldName, out: &mut Vec<u8>) {
    for each in fields.list.iter().filter(|each| each.id != but) {
        let (name, value) = (fields.name(each), each.value.of(&fields.bytes));
        field(encoder, &Field { id: each.id, name, value, indexing: each.indexing() }, out);
    }
}

fn field(encoder: &mut Encoder, field: &Field<'_>, out: &mut Vec<u8>) {
    if !HOP_BY_HOP.has(field.id) {
        encoder.received(field, out);
    }
}
