//! A field of a header block, and its name.

use crate::http::{FieldName, Indexing};

/// The pseudo-header fields of RFC 9113 §8.3 and RFC 8441 §4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Pseudo {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// `:protocol`
    Protocol,
}

impl Pseudo {
    const ALL: [Self; 6] =
        [Self::Authority, Self::Method, Self::Path, Self::Scheme, Self::Status, Self::Protocol];

    /// The name with its colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => ":authority",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Scheme => ":scheme",
            Self::Status => ":status",
            Self::Protocol => ":protocol",
        }
    }
}

/// The name of a field, as tables know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// A pseudo-header field.
    Pseudo(Pseudo),
    /// A known name; never [`FieldName::Other`].
    Known(FieldName),
    /// Any other text: also an upper-case or empty name, or an unknown one with a colon.
    Other,
}

impl Name {
    /// The name with this text.
    pub(super) fn of(text: &[u8]) -> Self {
        if text.first() == Some(&b':') {
            let known = Pseudo::ALL.into_iter().find(|pseudo| pseudo.as_str().as_bytes() == text);
            return known.map_or(Self::Other, Self::Pseudo);
        }
        match FieldName::of(text) {
            FieldName::Other => Self::Other,
            known => Self::Known(known),
        }
    }

    /// Its text; empty for [`Name::Other`].
    #[inline]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pseudo(pseudo) => pseudo.as_str(),
            Self::Known(known) => known.as_str(),
            Self::Other => "",
        }
    }

    /// Its text, which is `other` for [`Name::Other`].
    #[inline]
    pub(super) fn text(self, other: &[u8]) -> &[u8] {
        match self {
            Self::Other => other,
            known => known.as_str().as_bytes(),
        }
    }
}

/// A field of a header block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    /// The name, if it is a known one.
    pub id: FieldName,
    /// The text of the name, of any bytes; that of a pseudo-header begins with a colon.
    pub name: &'a [u8],
    /// The value, of any bytes.
    pub value: &'a [u8],
    /// Whether it may be put into a table.
    pub indexing: Indexing,
}

impl<'a> Field<'a> {
    pub(super) const fn new(
        name: Name,
        text: &'a [u8],
        value: &'a [u8],
        indexing: Indexing,
    ) -> Self {
        let id = match name {
            Name::Known(id) => id,
            Name::Pseudo(_) | Name::Other => FieldName::Other,
        };
        Self { id, name: text, value, indexing }
    }
}
