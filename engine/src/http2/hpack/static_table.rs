//! The static table (RFC 7541 appendix A).

use super::field::{Name, Pseudo};
use crate::http::FieldName;

const fn pseudo(pseudo: Pseudo, value: &'static str) -> (Name, &'static str) {
    (Name::Pseudo(pseudo), value)
}

const fn known(name: FieldName) -> (Name, &'static str) {
    (Name::Known(name), "")
}

/// Its fields, from index 1. Fields of the same name are neighbours.
static FIELDS: [(Name, &str); 61] = [
    pseudo(Pseudo::Authority, ""),
    pseudo(Pseudo::Method, "GET"),
    pseudo(Pseudo::Method, "POST"),
    pseudo(Pseudo::Path, "/"),
    pseudo(Pseudo::Path, "/index.html"),
    pseudo(Pseudo::Scheme, "http"),
    pseudo(Pseudo::Scheme, "https"),
    pseudo(Pseudo::Status, "200"),
    pseudo(Pseudo::Status, "204"),
    pseudo(Pseudo::Status, "206"),
    pseudo(Pseudo::Status, "304"),
    pseudo(Pseudo::Status, "400"),
    pseudo(Pseudo::Status, "404"),
    pseudo(Pseudo::Status, "500"),
    known(FieldName::AcceptCharset),
    (Name::Known(FieldName::AcceptEncoding), "gzip, deflate"),
    known(FieldName::AcceptLanguage),
    known(FieldName::AcceptRanges),
    known(FieldName::Accept),
    known(FieldName::AccessControlAllowOrigin),
    known(FieldName::Age),
    known(FieldName::Allow),
    known(FieldName::Authorization),
    known(FieldName::CacheControl),
    known(FieldName::ContentDisposition),
    known(FieldName::ContentEncoding),
    known(FieldName::ContentLanguage),
    known(FieldName::ContentLength),
    known(FieldName::ContentLocation),
    known(FieldName::ContentRange),
    known(FieldName::ContentType),
    known(FieldName::Cookie),
    known(FieldName::Date),
    known(FieldName::Etag),
    known(FieldName::Expect),
    known(FieldName::Expires),
    known(FieldName::From),
    known(FieldName::Host),
    known(FieldName::IfMatch),
    known(FieldName::IfModifiedSince),
    known(FieldName::IfNoneMatch),
    known(FieldName::IfRange),
    known(FieldName::IfUnmodifiedSince),
    known(FieldName::LastModified),
    known(FieldName::Link),
    known(FieldName::Location),
    known(FieldName::MaxForwards),
    known(FieldName::ProxyAuthenticate),
    known(FieldName::ProxyAuthorization),
    known(FieldName::Range),
    known(FieldName::Referer),
    known(FieldName::Refresh),
    known(FieldName::RetryAfter),
    known(FieldName::Server),
    known(FieldName::SetCookie),
    known(FieldName::StrictTransportSecurity),
    known(FieldName::TransferEncoding),
    known(FieldName::UserAgent),
    known(FieldName::Vary),
    known(FieldName::Via),
    known(FieldName::WwwAuthenticate),
];

/// How many fields it has: the dynamic table begins behind them.
pub(super) const LEN: usize = FIELDS.len();

/// By known name: its index; 0 if it is not in the table.
static BY_NAME: [u8; FieldName::COUNT] = {
    let mut table = [0; FieldName::COUNT];
    let mut fields = FIELDS.as_slice();
    let mut index = 1;
    while let [(name, _), rest @ ..] = fields {
        if let Name::Known(name) = *name
            && let Some((_, [place, ..])) = table.split_at_mut_checked(name as usize)
        {
            *place = index;
        }
        index += 1;
        fields = rest;
    }
    table
};

/// The field at an index, which begins at 1.
#[inline]
pub(super) fn get(index: usize) -> Option<(Name, &'static [u8])> {
    let (name, value) = FIELDS.get(index.checked_sub(1)?)?;
    Some((*name, value.as_bytes()))
}

/// The lowest index of a name.
#[inline]
pub(super) fn index_of(name: Name) -> Option<usize> {
    match name {
        Name::Pseudo(Pseudo::Authority) => Some(1),
        Name::Pseudo(Pseudo::Method) => Some(2),
        Name::Pseudo(Pseudo::Path) => Some(4),
        Name::Pseudo(Pseudo::Scheme) => Some(6),
        Name::Pseudo(Pseudo::Status) => Some(8),
        Name::Pseudo(Pseudo::Protocol) | Name::Other => None,
        Name::Known(known) => {
            let index = BY_NAME.get(known as usize).copied().unwrap_or_default();
            (index != 0).then_some(usize::from(index))
        }
    }
}

/// The index of a name, from `first` on, with this value.
#[inline]
pub(super) fn index_of_field(first: usize, name: Name, value: &[u8]) -> Option<usize> {
    let fields = FIELDS.get(first.checked_sub(1)?..)?.iter();
    let mut same = fields.take_while(|field| field.0 == name);
    Some(first + same.position(|field| field.1.as_bytes() == value)?)
}
