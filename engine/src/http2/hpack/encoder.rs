//! Encodes header blocks.
//!
//! What is put into the dynamic table: the first value of a name, and a further one when it is seen for the
//! second time soon. So fields that stay the same cost a byte from the second block on, and values that
//! change with every message (`x-request-id`, `x-forwarded-for`, trace contexts) take one entry, for the
//! sake of their name, instead of evicting everything else. No list of such names is needed.
//!
//! Some are never put into it, as in Envoy: values that change with every message and whose names are in the
//! static table, and secrets, which must not be guessed by watching the lengths of blocks (RFC 7541 §7.1).

use super::DEFAULT_TABLE_SIZE;
use super::field::{Field as Received, Name, Pseudo};
use super::huffman;
use super::static_table;
use super::table::{self, Table};
use crate::http::{FieldName, Indexing};

/// The largest table that is used, whatever the peer allows.
const TABLE_SIZE_MAX: usize = DEFAULT_TABLE_SIZE;

/// A cookie that is shorter than this may be guessed.
const SHORT_COOKIE: usize = 20;

/// The encoder of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Where fields are in the table; allocated with the first of them.
    index: Option<Box<Index>>,
    /// The smallest maximum size since the last block, if it was changed.
    resized: Option<usize>,
    strings: Strings,
}

/// How strings are written (RFC 7541 §5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strings {
    /// By the Huffman code, if that is shorter.
    Huffman,
    /// As they are.
    Plain,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Strings::Huffman)
    }
}

impl Encoder {
    /// One that writes strings in this way.
    #[must_use]
    pub fn new(strings: Strings) -> Self {
        Self { table: Table::new(DEFAULT_TABLE_SIZE), index: None, resized: None, strings }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_limit(&mut self, limit: usize) {
        let max = limit.min(TABLE_SIZE_MAX);
        if max != self.table.max() {
            self.resized = Some(self.resized.map_or(max, |least| least.min(max)));
            self.table.resize(max);
        }
    }

    /// Begins a header block.
    ///
    /// RFC 7541 §4.2: "the smallest maximum table size that occurs in that interval MUST be signaled", and
    /// then the final one.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(least) = self.resized.take() {
            if least < self.table.max() {
                integer(0x20, 5, least, out);
            }
            integer(0x20, 5, self.table.max(), out);
        }
    }

    /// Adds a field whose name is known, and not [`FieldName::Other`].
    #[inline]
    pub fn field(&mut self, id: FieldName, value: &[u8], out: &mut Vec<u8>) {
        self.add(&Field::named(Name::Known(id), value), out);
    }

    /// Adds a field of any name, given in lower case.
    pub fn other(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.received(
            &Received { id: FieldName::Other, name, value, indexing: Indexing::Allowed },
            out,
        );
    }

    /// Adds a pseudo-header.
    #[inline]
    pub fn pseudo(&mut self, name: Pseudo, value: &[u8], out: &mut Vec<u8>) {
        self.add(&Field::named(Name::Pseudo(name), value), out);
    }

    /// Adds a field as it was received: what was not to be indexed stays so (RFC 7541 §6.2.3).
    pub fn received(&mut self, field: &Received<'_>, out: &mut Vec<u8>) {
        let Received { id, name: text, value, indexing } = *field;
        let name = match id {
            FieldName::Other => Name::of(text),
            known => Name::Known(known),
        };
        self.add(&Field { name, text, value, indexing }, out);
    }

    fn add(&mut self, field: &Field<'_>, out: &mut Vec<u8>) {
        let known = static_table::index_of(field.name);
        let whole =
            known.and_then(|known| static_table::index_of_field(known, field.name, field.value));
        match (policy(field, self.table.max()), whole) {
            (Policy::Never, _) => self.strings.literal(0x10, 4, known, field, out),
            (_, Some(index)) => integer(0x80, 7, index, out),
            (Policy::NotInserted, None) => self.strings.literal(0, 4, known, field, out),
            (Policy::Inserted, None) => self.dynamic(known, field, out),
        }
    }

    /// A field that may be in the dynamic table, or put into it.
    fn dynamic(&mut self, known: Option<usize>, field: &Field<'_>, out: &mut Vec<u8>) {
        let index = self.index.get_or_insert_default();
        let places = Places::of(field);
        let is_it =
            |(name, text, _): (Name, &[u8], &[u8])| name == field.name && text == field.text;
        let at = |inserted: u8| {
            // The newest one has the age 0.
            let age =
                usize::from(low(self.table.inserted()).wrapping_sub(inserted).wrapping_sub(1));
            Some((age, self.table.get(age)?))
        };
        if let Some((age, entry)) =
            index.fields.get(places.field).and_then(|&inserted| at(inserted))
            && is_it(entry)
            && entry.2 == field.value
        {
            return integer(0x80, 7, static_table::LEN + 1 + age, out);
        }
        let named = index.names.get(places.name).and_then(|&inserted| at(inserted));
        let named =
            named.filter(|(_, entry)| is_it(*entry)).map(|(age, _)| static_table::LEN + 1 + age);
        let name_index = known.or(named);
        if named.is_some()
            && let Some(seen) = index.seen.get_mut(places.seen)
            && std::mem::replace(seen, places.tag) != places.tag
        {
            return self.strings.literal(0, 4, name_index, field, out);
        }
        self.strings.literal(0x40, 6, name_index, field, out);
        let inserted = low(self.table.inserted());
        self.table.insert(field.name, field.text, field.value);
        if let Some(place) = index.fields.get_mut(places.field) {
            *place = inserted;
        }
        if let Some(place) = index.names.get_mut(places.name) {
            *place = inserted;
        }
    }
}

/// A field to be encoded.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: Name,
    text: &'a [u8],
    value: &'a [u8],
    indexing: Indexing,
}

impl<'a> Field<'a> {
    #[inline]
    fn named(name: Name, value: &'a [u8]) -> Self {
        Self { name, text: name.as_str().as_bytes(), value, indexing: Indexing::Allowed }
    }
}

/// How a field that is in no table is encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Policy {
    /// It may be put into the table.
    Inserted,
    /// Not by this encoder.
    NotInserted,
    /// By nobody on the way, either.
    Never,
}

#[inline]
fn policy(field: &Field<'_>, table_max: usize) -> Policy {
    if field.indexing == Indexing::Never {
        return Policy::Never;
    }
    match field.name {
        Name::Known(FieldName::Authorization | FieldName::ProxyAuthorization) => Policy::Never,
        Name::Known(FieldName::Cookie) if field.value.len() < SHORT_COOKIE => Policy::Never,
        Name::Pseudo(Pseudo::Path)
        | Name::Known(
            FieldName::Age
            | FieldName::ContentLength
            | FieldName::Etag
            | FieldName::IfModifiedSince
            | FieldName::IfNoneMatch
            | FieldName::Location
            | FieldName::SetCookie,
        ) => Policy::NotInserted,
        // A field as large as most of the table would evict all others.
        _ if table::size_of(field.text, field.value) > table_max / 4 * 3 => Policy::NotInserted,
        _ => Policy::Inserted,
    }
}

const FIELD_PLACES: usize = 128;
const NAME_PLACES: usize = 192;
const SEEN_PLACES: usize = 32;

// A table has at most 128 entries, so that eight bits tell them apart.
const _: () = assert!(TABLE_SIZE_MAX / (table::OVERHEAD + 1) < 1 << u8::BITS);

/// Other names have places from here, known ones have their own.
const OTHER_NAMES: usize = 128;
const PSEUDO_NAMES: usize = OTHER_NAMES - 8;
const _: () = assert!(FieldName::COUNT <= PSEUDO_NAMES);

/// By hash: the low bits of how many entries had been inserted before this one. An entry takes the place of
/// another one with the same hash, and may have been evicted: what is found is compared.
#[derive(Debug)]
struct Index {
    fields: [u8; FIELD_PLACES],
    /// The last entry of a name.
    names: [u8; NAME_PLACES],
    /// Tags of fields that were not inserted.
    seen: [u16; SEEN_PLACES],
}

impl Default for Index {
    fn default() -> Self {
        Self { fields: [0; FIELD_PLACES], names: [0; NAME_PLACES], seen: [0; SEEN_PLACES] }
    }
}

/// The places of a field in the index.
struct Places {
    field: usize,
    name: usize,
    seen: usize,
    tag: u16,
}

impl Places {
    #[inline]
    fn of(field: &Field<'_>) -> Self {
        let (name, hash) = match field.name {
            Name::Known(known) => (known as usize, known as u64),
            Name::Pseudo(pseudo) => {
                let place = PSEUDO_NAMES + pseudo as usize;
                (place, place as u64)
            }
            Name::Other => {
                let hash = hash(0, field.text);
                (OTHER_NAMES + high(hash) % (NAME_PLACES - OTHER_NAMES), hash)
            }
        };
        let hash = hash_value(hash, field.value);
        Self {
            field: high(hash) % FIELD_PLACES,
            name,
            seen: high(hash << 7) % SEEN_PLACES,
            tag: tag(hash),
        }
    }
}

#[inline]
fn hash_value(seed: u64, value: &[u8]) -> u64 {
    hash(seed.wrapping_mul(FACTOR), value)
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A quick hash: collisions only cost compression.
#[inline]
fn hash(seed: u64, text: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = text.as_chunks::<8>();
    let mut hash = mix(seed, text.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let last = rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    mix(hash, last)
}

/// The highest bits of a hash, which depend on all others.
#[inline]
const fn high(hash: u64) -> usize {
    (hash >> 56) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
const fn low(bits: u32) -> u8 {
    bits as u8
}

#[expect(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
const fn tag(hash: u64) -> u16 {
    (hash >> 32) as u16
}

impl Strings {
    /// A literal field: `first` is its representation, with an index of `prefix` bits.
    fn literal(
        self,
        first: u8,
        prefix: u32,
        name: Option<usize>,
        field: &Field<'_>,
        out: &mut Vec<u8>,
    ) {
        match name {
            Some(index) => integer(first, prefix, index, out),
            None => {
                out.push(first);
                self.string(field.text, out);
            }
        }
        self.string(field.value, out);
    }
    #[inline]
    fn string(self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Huffman => shorter(text, out),
            Self::Plain => {
                integer(0, 7, text.len(), out);
                out.extend_from_slice(text);
            }
        }
    }
}

/// An integer in the low `prefix` bits of `first` and the bytes behind it (RFC 7541 §5.1).
#[inline]
pub(super) fn integer(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_u8 << prefix) - 1;
    match u8::try_from(value) {
        Ok(value) if value < most => out.push(first | value),
        _ => long_integer(first | most, value - usize::from(most), out),
    }
}

#[inline(never)]
fn long_integer(first: u8, mut left: usize, out: &mut Vec<u8>) {
    out.push(first);
    loop {
        let low = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        if left == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// The longest string whose length takes one byte, also if it is shorter when encoded.
const SHORT: usize = 126;

/// A string by the Huffman code, if that is shorter.
fn shorter(text: &[u8], out: &mut Vec<u8>) {
    if text.len() > SHORT {
        let encoded = huffman::encoded_len(text);
        if encoded < text.len() {
            integer(0x80, 7, encoded, out);
            huffman::encode(text, out);
        } else {
            integer(0, 7, text.len(), out);
            out.extend_from_slice(text);
        }
        return;
    }
    let start = out.len();
    out.push(0);
    huffman::encode(text, out);
    let encoded = out.len() - start - 1;
    let len = if encoded < text.len() {
        0x80 | encoded
    } else {
        out.truncate(start + 1);
        out.extend_from_slice(text);
        text.len()
    };
    if let (Some(place), Ok(len)) = (out.get_mut(start), u8::try_from(len)) {
        *place = len;
    }
}
