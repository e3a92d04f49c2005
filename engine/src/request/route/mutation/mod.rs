//! Headers that a route adds and removes.
//!
//! Levels are applied one after the other: weighted cluster, route, virtual host, configuration, or
//! the last three the other way round. The values of one level are made before the level changes
//! anything.

pub(crate) mod compile;

use std::ops::Range;
use std::sync::Arc;

use crate::format::{Formatter, Inputs, StreamInfo, Unset};
use crate::http::{
    FieldName, FieldSet, Fields, JOINED_IN_REQUESTS, JOINED_IN_RESPONSES, RequestHead, ResponseHead,
};

/// All the levels, in the order they are applied.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    levels: Box<[Arc<MutationLevel>]>,
}

/// What one level of the configuration changes.
#[derive(Clone, Debug, Default)]
pub struct MutationLevel {
    /// Removed first; in lower case.
    pub remove: Vec<Box<[u8]>>,
    /// Then these: first all that overwrite, then all that append.
    pub add: Vec<HeaderAddition>,
    /// At last the host of a request, of which nobody is told: `host_rewrite_literal` of a weighted
    /// cluster.
    pub host: Option<Box<[u8]>>,
}

/// A header that is added.
#[derive(Clone, Debug)]
pub struct HeaderAddition {
    /// In lower case.
    pub name: Box<[u8]>,
    /// May refer to the request.
    pub value: Formatter,
    /// What becomes of one that is there.
    pub action: AppendAction,
    /// Whether an empty value is added too.
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

/// Room for the values of one level, kept from request to request.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    /// For each addition its value, if it is to happen.
    values: Vec<Option<Range<usize>>>,
}

impl HeaderMutations {
    /// In the order given; levels that change nothing are forgotten.
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

    /// Makes the values of the additions that are to happen.
    fn decide(&self, fields: &Fields, inputs: &Inputs<'_>, scratch: &mut Scratch) {
        scratch.bytes.clear();
        scratch.values.clear();
        for addition in &self.add {
            let happens = match addition.action {
                AppendAction::AddIfAbsent => fields.find(&addition.name).is_none(),
                AppendAction::OverwriteIfExists => fields.find(&addition.name).is_some(),
                AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
            };
            let start = scratch.bytes.len();
            if happens {
                addition.value.format(inputs, Unset::Empty, &mut scratch.bytes);
            }
            // A name or a body that a command brings may have a line end in it. RFC 9110, 5.5: it
            // becomes a space.
            for byte in scratch.bytes.iter_mut().skip(start) {
                if byte.is_ascii_control() && *byte != b'\t' {
                    *byte = b' ';
                }
            }
            let value = start..scratch.bytes.len();
            let happens = happens && (!value.is_empty() || addition.keep_empty);
            scratch.values.push(happens.then_some(value));
        }
    }

    fn add_to(&self, fields: &mut Fields, joined: FieldSet, scratch: &mut Scratch) {
        let Scratch { bytes, values } = scratch;
        for overwriting in [true, false] {
            for (addition, value) in self.add.iter().zip(values.iter()) {
                let Some(value) = value.clone() else { continue };
                if addition.overwrites() != overwriting {
                    continue;
                }
                if overwriting {
                    // The new one goes to the end, as in Envoy.
                    fields.remove_other(&addition.name);
                }
                let value = bytes.get(value).unwrap_or_default();
                match FieldName::of(&addition.name) {
                    name if joined.has(name) => fields.join(name, b",", value),
                    _ => fields.append_other(&addition.name, value),
                }
            }
        }
    }
}

impl HeaderAddition {
    fn overwrites(&self) -> bool {
        matches!(
            self.action,
            AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd
        )
    }
}
