//! Header fields as spans of one buffer.
//!
//! Invariant: `present` has a name exactly when some field of `list` has it, so that the usual case,
//! an absent field, costs one test; `repeated` has it if two fields do.

use super::byte_set::TOKEN;
use super::field_name::{FieldName, FieldSet};

/// A range of bytes of the buffer that a head was received into.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes it covers; empty if it is out of bounds.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// An offset in a head; heads are far shorter than 4 GiB.
pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// The name, if it is a known one.
    pub id: FieldName,
    pub(crate) shape: Shape,
    /// Where the lower-case name is; empty for a known name that is not in the buffer.
    pub name: Span,
    /// Where the value is, without surrounding white space.
    pub value: Span,
}

/// How a field is stored in the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// As it will be sent: a line end, the name, a colon, a space and the value.
    Line,
    /// Name and value are in separate places.
    Parts,
    /// As [`Self::Parts`], of a field that is [`Indexing::Never`].
    Secret,
}

/// Whether a compression table of HTTP/2 or HTTP/3 may have a field.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Indexing {
    /// As the encoder likes.
    #[default]
    Allowed,
    /// Never, by nobody on the way: its value is a secret (RFC 7541 §7.1.3).
    Never,
}

impl Field {
    /// A field as received: a line end may be a bare LF, and there may be no white space, or other
    /// than one space.
    pub(crate) fn received(bytes: &[u8], name: Span, value: Span) -> Self {
        let field = Self { id: FieldName::Other, shape: Shape::Line, name, value };
        let is_line = name.end.wrapping_add(2) == value.start
            && pair(bytes, name.end as usize) == Some(b": ")
            && pair(bytes, field.line_start()) == Some(b"\r\n");
        Self { shape: if is_line { Shape::Line } else { Shape::Parts }, ..field }
    }

    /// A field whose name and value are in separate places.
    pub(crate) const fn of_parts(id: FieldName, name: Span, value: Span) -> Self {
        Self { id, shape: Shape::Parts, name, value }
    }

    /// Whether a table may have it.
    pub(crate) const fn indexing(&self) -> Indexing {
        match self.shape {
            Shape::Line | Shape::Parts => Indexing::Allowed,
            Shape::Secret => Indexing::Never,
        }
    }

    /// Where its line begins, if it is a [`Shape::Line`].
    pub(crate) const fn line_start(&self) -> usize {
        // Out of bounds if there is no line before it.
        (self.name.start as usize).wrapping_sub(2)
    }
}

/// A field with a known name that is encoded once and added to many heads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line<B = Vec<u8>> {
    id: FieldName,
    /// A line end, the name, a colon, a space and the value.
    bytes: B,
}

impl Line {
    /// A line with this name and value.
    pub fn new(id: FieldName, value: &[u8]) -> Self {
        Self { id, bytes: [id.line(), value].concat() }
    }
}

impl<B: AsRef<[u8]>> Line<B> {
    /// A line of these bytes, which begin with [`FieldName::line`].
    pub fn of_bytes(id: FieldName, bytes: B) -> Self {
        debug_assert!(bytes.as_ref().starts_with(id.line()), "a line begins with its name");
        Self { id, bytes }
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        self.bytes.as_ref().get(self.id.line().len()..).unwrap_or_default()
    }
}

/// The fields of a head, in the order received, and the buffer that holds them.
///
/// An edit never moves existing bytes: new ones are appended after everything that was received. So
/// what follows the head in the buffer is removed first ([`super::RequestHead::split_off`]), or its
/// range is recorded ([`super::ResponseHead::surplus`]).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields {
    pub(crate) bytes: Vec<u8>,
    pub(crate) list: Vec<Field>,
    present: FieldSet,
    repeated: FieldSet,
}

impl Fields {
    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, id: FieldName) -> Option<&[u8]> {
        if self.has(id) { self.get_all(id).next() } else { None }
    }

    /// Whether there is a field of this name.
    pub fn has(&self, id: FieldName) -> bool {
        self.present.has(id)
    }

    /// Whether there is a field of one of these names.
    pub fn has_any(&self, names: FieldSet) -> bool {
        !self.present.is_disjoint(names)
    }

    /// Whether there is more than one field of this name.
    #[inline]
    pub fn is_repeated(&self, id: FieldName) -> bool {
        self.repeated.has(id) && self.get_all(id).nth(1).is_some()
    }

    /// The values of all fields of this name, in order.
    pub fn get_all(&self, id: FieldName) -> impl Iterator<Item = &[u8]> {
        self.list
            .iter()
            .filter(move |field| field.id == id)
            .map(|field| field.value.of(&self.bytes))
    }

    /// The value of the first field of any name, given in lower case.
    pub fn find(&self, name: &[u8]) -> Option<&[u8]> {
        match FieldName::of(name) {
            FieldName::Other => self.iter().find(|field| field.1 == name).map(|field| field.2),
            id => self.get(id),
        }
    }

    /// All fields: name, lower-case text of the name, value.
    pub fn iter(&self) -> impl Iterator<Item = (FieldName, &[u8], &[u8])> {
        self.list.iter().map(|field| (field.id, self.name(field), field.value.of(&self.bytes)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Total bytes of the names and values.
    pub fn byte_size(&self) -> usize {
        self.iter().map(|(_, name, value)| name.len() + value.len()).sum()
    }

    /// From field lines, as trailers are kept.
    pub(crate) fn of_lines(lines: &[u8]) -> Self {
        let mut fields = Self::default();
        for line in lines.split(|&byte| byte == b'\n') {
            let mut parts = line.splitn(2, |&byte| byte == b':');
            if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                fields.append_other(&name.to_ascii_lowercase(), value.trim_ascii());
            }
        }
        fields
    }

    /// Adds a field at the end.
    pub fn append(&mut self, id: FieldName, value: &[u8]) {
        let field = self.keep_line(id, value);
        self.push(field);
    }

    /// Adds a field at the end, from a prepared line.
    pub fn append_line(&mut self, line: &Line<impl AsRef<[u8]>>) {
        let field = self.keep_prepared(line);
        self.push(field);
    }

    /// Adds a field of any name, given in lower case, at the end.
    pub fn append_other(&mut self, name: &[u8], value: &[u8]) {
        let id = FieldName::of(name);
        if id != FieldName::Other {
            return self.append(id, value);
        }
        let name = self.keep(name);
        let value = self.keep(value);
        self.push(Field::of_parts(id, name, value));
    }

    /// Adds a field at the end, as its line will be sent. `id` is that of the lower-case `name`.
    pub(crate) fn append_decoded(
        &mut self,
        id: FieldName,
        name: &[u8],
        value: &[u8],
        indexing: Indexing,
    ) {
        let mut field = if id == FieldName::Other {
            self.bytes.reserve(name.len() + value.len() + 4);
            self.bytes.extend_from_slice(b"\r\n");
            let name = self.keep(name);
            self.bytes.extend_from_slice(b": ");
            Field { id, shape: Shape::Line, name, value: self.keep(value) }
        } else {
            self.keep_line(id, value)
        };
        if indexing == Indexing::Never {
            field.shape = Shape::Secret;
        }
        self.push(field);
    }

    /// Replaces the value of the first field of this name and removes its repetitions; adds the field
    /// at the end if there is none.
    pub fn set(&mut self, id: FieldName, value: &[u8]) {
        let field = self.keep_line(id, value);
        self.set_field(field);
    }

    /// As [`Fields::set`], from a prepared line.
    #[inline(always)]
    pub fn set_line(&mut self, line: &Line<impl AsRef<[u8]>>) {
        let field = self.keep_prepared(line);
        self.set_field(field);
    }

    /// As [`Fields::set`], with a value that is already in the buffer.
    pub(crate) fn set_span(&mut self, id: FieldName, value: Span) {
        self.set_field(Field::of_parts(id, Span::default(), value));
    }

    /// As [`Fields::set`], with a copy of a value that is in the buffer.
    pub(crate) fn set_copy(&mut self, id: FieldName, value: Span) {
        let start = self.bytes.len();
        let range = value.start as usize..value.end as usize;
        self.bytes.reserve(id.line().len() + range.len());
        self.bytes.extend_from_slice(id.line());
        if range.end <= start && range.start <= range.end {
            self.bytes.extend_from_within(range);
        }
        let field = self.line_from(id, start);
        self.set_field(field);
    }
    #[inline(always)]
    fn set_field(&mut self, field: Field) {
        let name = FieldSet::of_one(field.id);
        if self.has_any(name) {
            self.replace(field, name);
        } else {
            self.present = self.present.or(name);
            self.list.push(field);
        }
    }

    /// As [`Fields::set`], for any name, given in lower case.
    pub fn set_other(&mut self, name: &[u8], value: &[u8]) {
        match FieldName::of(name) {
            FieldName::Other => {
                let Some(first) = self.list.iter().position(|field| self.name(field) == name)
                else {
                    return self.append_other(name, value);
                };
                let value = self.keep(value);
                if let Some(field) = self.list.get_mut(first) {
                    *field = Field::of_parts(field.id, field.name, value);
                }
                self.retain(|at, other, _, _| at <= first || other != name);
            }
            id => self.set(id, value),
        }
    }

    /// Removes all fields of any name, given in lower case, and adds one at the end.
    pub fn replace_other(&mut self, name: &[u8], value: &[u8]) {
        self.remove_other(name);
        self.append_other(name, value);
    }

    /// Joins the repetitions of a field into the first one and appends a value to it, with a
    /// separator; adds the field at the end if there is none.
    pub fn join(&mut self, id: FieldName, separator: &[u8], value: &[u8]) {
        if !self.has(id) {
            return self.append(id, value);
        }
        let mut joined = self.keep_joined(id, separator);
        if !value.is_empty() {
            if joined.end > joined.start {
                self.bytes.extend_from_slice(separator);
            }
            self.bytes.extend_from_slice(value);
            joined.end = offset(self.bytes.len());
        }
        self.replace(self.joined_of(id, joined), FieldSet::of_one(id));
    }

    /// Removes all fields of this name.
    pub fn remove(&mut self, id: FieldName) {
        if self.has(id) {
            self.remove_set(FieldSet::of(&[id]));
        }
    }

    /// Removes all fields of these names.
    #[inline]
    pub fn remove_set(&mut self, names: FieldSet) {
        if self.has_any(names) {
            self.remove_present(names);
        }
    }

    fn remove_present(&mut self, names: FieldSet) {
        self.list.retain(|field| !names.has(field.id));
        self.present = self.present.without(names);
        self.repeated = self.repeated.without(names);
    }

    /// Joins the values of repeated fields of these names into the first, with commas.
    #[inline]
    pub fn merge_set(&mut self, names: FieldSet) {
        if !self.repeated.is_disjoint(names) {
            self.merge_repeated(names);
        }
    }

    fn merge_repeated(&mut self, names: FieldSet) {
        while !self.repeated.is_disjoint(names) {
            let Some(id) = self
                .list
                .iter()
                .map(|field| field.id)
                .find(|&id| names.has(id) && self.repeated.has(id))
            else {
                return;
            };
            let value = self.keep_joined(id, b",");
            self.replace(self.joined_of(id, value), FieldSet::of_one(id));
        }
    }

    /// The field with the joined values of this name: a secret if one of them is.
    fn joined_of(&self, id: FieldName, value: Span) -> Field {
        let mut parts = self.list.iter().filter(|field| field.id == id);
        let has_secret = parts.any(|field| field.indexing() == Indexing::Never);
        let shape = if has_secret { Shape::Secret } else { Shape::Parts };
        Field { id, shape, name: Span::default(), value }
    }

    /// Removes all fields of any name, given in lower case.
    pub fn remove_other(&mut self, name: &[u8]) {
        match FieldName::of(name) {
            FieldName::Other => self.retain(|_, other, _, _| other != name),
            id => self.remove(id),
        }
    }

    /// Keeps the fields for which `keep` is true. Its arguments: position, text of the name, name,
    /// value.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &[u8], FieldName, &[u8]) -> bool) {
        let mut at = 0;
        let bytes = &self.bytes;
        self.list.retain(|field| {
            let name = name_of(field, bytes);
            let kept = keep(at, name, field.id, field.value.of(bytes));
            at += 1;
            kept
        });
        (self.present, self.repeated) = (FieldSet::default(), FieldSet::default());
        for at in 0..self.list.len() {
            let Some(field) = self.list.get(at) else { break };
            let id = field.id;
            self.note(id);
        }
    }

    pub(crate) fn push(&mut self, field: Field) {
        self.note(field.id);
        self.list.push(field);
    }

    pub(crate) fn clear_list(&mut self) {
        self.list.clear();
        (self.present, self.repeated) = (FieldSet::default(), FieldSet::default());
    }

    /// Appends text to the buffer.
    pub(crate) fn keep(&mut self, text: &[u8]) -> Span {
        let start = offset(self.bytes.len());
        self.bytes.extend_from_slice(text);
        Span { start, end: offset(self.bytes.len()) }
    }

    /// Appends a field to the buffer, as it will be sent.
    fn keep_line(&mut self, id: FieldName, value: &[u8]) -> Field {
        let before_value = id.line();
        let start = self.bytes.len();
        self.bytes.reserve(before_value.len() + value.len());
        self.bytes.extend_from_slice(before_value);
        self.bytes.extend_from_slice(value);
        self.line_from(id, start)
    }

    fn keep_prepared(&mut self, line: &Line<impl AsRef<[u8]>>) -> Field {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line.bytes.as_ref());
        self.line_from(line.id, start)
    }

    /// The field whose line begins at `start`.
    fn line_from(&self, id: FieldName, start: usize) -> Field {
        let (start, end) = (offset(start), offset(self.bytes.len()));
        let value = start + offset(id.line().len());
        // Between the line end and the colon.
        let name = Span { start: start + 2, end: value.saturating_sub(2) };
        Field { id, shape: Shape::Line, name, value: Span { start: value, end } }
    }

    /// The buffer and the list, for the parser.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut Vec<Field>) {
        (&mut self.bytes, &mut self.list)
    }

    /// Lower-cases the names in place and looks up the known ones. Returns whether all are valid names.
    pub(crate) fn recognise(&mut self) -> bool {
        let mut are_names = true;
        let (mut present, mut repeated) = (FieldSet::default(), FieldSet::default());
        for field in &mut self.list {
            let range = field.name.start as usize..field.name.end as usize;
            let Some(name) = self.bytes.get_mut(range) else { continue };
            field.id = FieldName::of_received(name);
            if field.id == FieldName::Other {
                are_names &= TOKEN.has_all(name);
            }
            let name = FieldSet::of_one(field.id);
            repeated = repeated.or(present.and(name));
            present = present.or(name);
        }
        (self.present, self.repeated) = (present, repeated);
        are_names
    }

    fn note(&mut self, id: FieldName) {
        let name = FieldSet::of_one(id);
        self.repeated = self.repeated.or(self.present.and(name));
        self.present = self.present.or(name);
    }

    /// Appends the joined values of this name to the buffer. Envoy: empty values are skipped.
    fn keep_joined(&mut self, id: FieldName, separator: &[u8]) -> Span {
        let start = self.bytes.len();
        for field in self.list.iter().filter(|field| field.id == id) {
            let range = field.value.start as usize..field.value.end as usize;
            if range.is_empty() {
                continue;
            }
            if self.bytes.len() > start {
                self.bytes.extend_from_slice(separator);
            }
            if range.end <= self.bytes.len() && range.start <= range.end {
                self.bytes.extend_from_within(range);
            }
        }
        Span { start: offset(start), end: offset(self.bytes.len()) }
    }

    /// The lower-case text of a field's name.
    pub(crate) fn name(&self, field: &Field) -> &[u8] {
        name_of(field, &self.bytes)
    }

    /// Replaces the first field of this name, and removes the others.
    fn replace(&mut self, field: Field, name: FieldSet) {
        let mut first = true;
        if !self.repeated.is_disjoint(name) {
            self.list.retain(|other| other.id != field.id || std::mem::take(&mut first));
            self.repeated = self.repeated.without(name);
        }
        if let Some(first) = self.list.iter_mut().find(|other| other.id == field.id) {
            *first = field;
        }
    }
}

fn pair(bytes: &[u8], at: usize) -> Option<&[u8; 2]> {
    bytes.get(at..)?.first_chunk()
}

fn name_of<'a>(field: &Field, bytes: &'a [u8]) -> &'a [u8] {
    match field.id {
        FieldName::Other => field.name.of(bytes),
        id => id.as_str().as_bytes(),
    }
}
