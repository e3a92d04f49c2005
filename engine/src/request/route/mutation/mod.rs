//! The headers that a route adds and removes.
//!
//! Levels are applied in turn: weighted cluster, route, virtual host, route configuration, or the
//! last three in reverse order. The values of a level are computed before the level changes
//! anything.

pub(crate) mod compile;

use std::ops::Range;
use std::sync::Arc;

use crate::format::{Formatter, Inputs, StreamInfo, Unset};
use crate::http::{
    FieldName, FieldSet, Fields, JOINED_IN_REQUESTS, JOINED_IN_RESPONSES, RequestHead, ResponseHead,
};

/// All levels, in the order in which they are applied.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    levels: Box<[Arc<MutationLevel>]>,
}

/// The changes of one level of the configuration.
#[derive(Clone, Debug, Default)]
pub struct MutationLevel {
    /// Removed first; in lower case.
    pub remove: Vec<Box<[u8]>>,
    /// Added next: first those that overwrite, then those that append.
    pub add: Vec<HeaderAddition>,
    /// Finally the new host of a request, without `x-envoy-original-host`: `host_rewrite_literal`
    /// of a weighted cluster.
    pub host: Option<Box<[u8]>>,
}

/// A header to add.
#[derive(Clone, Debug)]
pub struct HeaderAddition {
    /// In lower case.
    pub name: Box<[u8]>,
    /// May refer to the request.
    pub value: Formatter,
    /// What to do if the header exists or not.
    pub action: AppendAction,
    /// Whether the header is added even if its value is empty.
    pub keep_empty: bool,
}

/// `HeaderValueOption.append_action`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the schema's names say it")]
pub enum AppendAction {
    AddIfAbsent,
    #[default]
    AppendIfExistsOrAdd,
    OverwriteIfExists,
    OverwriteIfExistsOrAdd,
}

/// Buffers for the values of one level, reused for all requests.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    /// The value of each addition; `None` if it does not apply.
    values: Vec<Option<Range<usize>>>,
}

impl HeaderMutations {
    /// In the order given; levels without changes are left out.
    pub fn new(levels: impl IntoIterator<Item = Arc<MutationLevel>>) -> Self {
        let changes = |level: &Arc<MutationLevel>| {
            let MutationLevel { remove, add, host } = &**level;
            !remove.is_empty() || !add.is_empty() || host.is_some()
        };
        Self { levels: levels.into_iter().filter(changes).collect() }
    }

    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// The names of the headers that they remove.
    pub fn removed(&self) -> impl Iterator<Item = String> {
        let names = self.levels.iter().flat_map(|level| &level.remove);
        names.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Changes a request on its way to the upstream.
    pub fn apply_to_request(
        &self,
        head: &mut RequestHead,
        stream: &dyn StreamInfo,
        scratch: &mut Scratch,
    ) {
        for level in &self.levels {
            level.remove_from(&mut head.fields);
            let inputs = Inputs { request: Some(head), ..Inputs::new(stream) };
            level.decide(&head.fields, &inputs, scratch);
            level.add_to(&mut head.fields, JOINED_IN_REQUESTS, scratch);
            if let Some(host) = &level.host {
                head.set_authority(host);
            }
        }
    }

    /// Adds to a request that this proxy makes for a connection without requests: no value can refer to
    /// a client's.
    pub fn apply_to_own_request(
        &self,
        head: &mut RequestHead,
        stream: &dyn StreamInfo,
        scratch: &mut Scratch,
    ) {
        for level in &self.levels {
            level.decide(&head.fields, &Inputs::new(stream), scratch);
            level.add_to(&mut head.fields, JOINED_IN_REQUESTS, scratch);
        }
    }

    /// Changes a response on its way to the client.
    pub fn apply_to_response(
        &self,
        head: &mut ResponseHead,
        request: Option<&RequestHead>,
        stream: &dyn StreamInfo,
        scratch: &mut Scratch,
    ) {
        for level in &self.levels {
            level.remove_from(&mut head.fields);
            let inputs = Inputs { request, response: Some(head), ..Inputs::new(stream) };
            level.decide(&head.fields, &inputs, scratch);
            level.add_to(&mut head.fields, JOINED_IN_RESPONSES, scratch);
        }
    }
}

impl MutationLevel {
    fn remove_from(&self, fields: &mut Fields) {
        for name in &self.remove {
            fields.remove_other(name);
        }
    }

    /// Computes the values of the additions that apply.
    fn decide(&self, fields: &Fields, inputs: &Inputs<'_>, scratch: &mut Scratch) {
        scratch.bytes.clear();
        scratch.values.clear();
        for addition in &self.add {
            let applies = addition.applies_to(fields);
            let start = scratch.bytes.len();
            if applies {
                addition.write_value(inputs, &mut scratch.bytes);
            }
            let value = start..scratch.bytes.len();
            let applies = applies && (!value.is_empty() || addition.keep_empty);
            scratch.values.push(applies.then_some(value));
        }
    }

    fn add_to(&self, fields: &mut Fields, joined: FieldSet, scratch: &mut Scratch) {
        let Scratch { bytes, values } = scratch;
        for overwriting in [true, false] {
            for (addition, value) in self.add.iter().zip(values.iter()) {
                let Some(value) = value.clone() else { continue };
                if addition.overwrites() == overwriting {
                    addition.put(bytes.get(value).unwrap_or_default(), fields, joined);
                }
            }
        }
    }
}

/// Appends a header, to the value of an earlier one if such are joined.
pub(super) fn append(name: &[u8], value: &[u8], fields: &mut Fields, joined: FieldSet) {
    match FieldName::of(name) {
        known if joined.has(known) => fields.join(known, b",", value),
        _ => fields.append_other(name, value),
    }
}

impl HeaderAddition {
    /// Whether it adds anything to these fields, if it has a value.
    pub(crate) fn applies_to(&self, fields: &Fields) -> bool {
        match self.action {
            AppendAction::AddIfAbsent => fields.find(&self.name).is_none(),
            AppendAction::OverwriteIfExists => fields.find(&self.name).is_some(),
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
        }
    }

    /// Appends the value to `out`.
    pub(crate) fn write_value(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.value.format(inputs, Unset::Empty, out);
        // The result of a command may contain a line end. RFC 9110, 5.5: it becomes a space.
        for byte in out.iter_mut().skip(start) {
            if byte.is_ascii_control() && *byte != b'\t' {
                *byte = b' ';
            }
        }
    }

    /// Adds it with this value.
    pub(crate) fn put(&self, value: &[u8], fields: &mut Fields, joined: FieldSet) {
        if self.overwrites() {
            // As in Envoy, the new one is appended.
            fields.remove_other(&self.name);
        }
        append(&self.name, value, fields, joined);
    }

    fn overwrites(&self) -> bool {
        matches!(
            self.action,
            AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd
        )
    }
}
