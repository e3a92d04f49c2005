//! The records of OpenTelemetry: a body and attributes, whose texts have commands.

use std::time::UNIX_EPOCH;

use super::custom_tags::CustomTag;
use super::entry::utf8;
use crate::format::{Formatter, Inputs, Unset};
use crate::otlp::{AnyValue, ArrayValue, KeyValue, KeyValueList, Kind, LogRecord};

/// What a record is made of.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) body: Option<Template>,
    pub(super) attributes: Vec<(String, Template)>,
    /// The objects of the filter state, each with a format that shows it.
    pub(super) filter_state: Vec<(String, Formatter)>,
    pub(super) custom_tags: Vec<CustomTag>,
}

/// A value whose texts have commands.
#[derive(Debug)]
pub(super) enum Template {
    Text(Formatter),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Records {
    pub(super) fn record(&self, inputs: &Inputs<'_>) -> LogRecord {
        let mut attributes = key_values(&self.attributes, inputs);
        for (key, format) in &self.filter_state {
            let text = text(format, Unset::Empty, inputs);
            if !text.is_empty() {
                attributes.push(KeyValue::text(key, text));
            }
        }
        for tag in &self.custom_tags {
            if let Some(value) = tag.value(inputs) {
                attributes.push(KeyValue::text(&tag.name, value));
            }
        }
        let since = inputs.stream.start_time().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogRecord {
            time_unix_nano: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            body: self.body.as_ref().map(|body| body.value(inputs)),
            attributes,
        }
    }
}

impl Template {
    fn value(&self, inputs: &Inputs<'_>) -> AnyValue {
        AnyValue::from(match self {
            Self::Text(format) => Kind::Text(text(format, Unset::Dash, inputs)),
            Self::List(items) => {
                let values = items.iter().map(|item| item.value(inputs)).collect();
                Kind::List(ArrayValue { values })
            }
            Self::Map(members) => Kind::Map(KeyValueList { values: key_values(members, inputs) }),
        })
    }
}

fn key_values(members: &[(String, Template)], inputs: &Inputs<'_>) -> Vec<KeyValue> {
    let member = |(key, template): &(String, Template)| KeyValue {
        key: key.clone(),
        value: Some(template.value(inputs)),
    };
    members.iter().map(member).collect()
}

fn text(format: &Formatter, unset: Unset, inputs: &Inputs<'_>) -> String {
    let mut out = Vec::new();
    format.format(inputs, unset, &mut out);
    utf8(&out)
}
