//! Commands that show metadata of the configuration, and what listener filters have noted on a connection:
//! dynamic metadata, and the values of a PROXY header in the filter state.

use std::borrow::Cow;

use serde_json::Value;

use super::json_text as json;
use super::{Inputs, StreamInfo};
use crate::metadata::MetadataOf;
use crate::untrusted::escape_controls;

/// `%METADATA(TYPE:namespace:key:…)%` of a part of the configuration: a namespace, or a value in it.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    of: MetadataOf,
    namespace: Box<str>,
    path: Box<[Box<str>]>,
}

impl Configured {
    /// `parameters` are the namespace and the keys.
    pub(super) fn new(of: MetadataOf, parameters: &str) -> Self {
        let mut parts = parameters.split(':').map(Box::from);
        let namespace = parts.next().unwrap_or_default();
        Self { of, namespace, path: parts.collect() }
    }

    fn value<'a>(&self, inputs: &Inputs<'a>) -> Option<&'a Value> {
        let value = inputs.stream.static_metadata(self.of)?.find(&self.namespace, &self.path)?;
        Some(value).filter(|value| !value.is_null())
    }

    /// A text as it is, anything else as JSON.
    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        match self.value(inputs)? {
            Value::String(text) => out.extend_from_slice(text.as_bytes()),
            value => json::write_value(value, out),
        }
        Some(())
    }

    /// As in Envoy a length applies to texts only.
    pub(super) fn write_json(
        &self,
        inputs: &Inputs<'_>,
        bytes_max: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match self.value(inputs)? {
            Value::String(text) => json::write_string(cut(text.as_bytes(), bytes_max), out),
            value => json::write_value(value, out),
        }
        Some(())
    }
}

fn cut(text: &[u8], bytes_max: Option<usize>) -> &[u8] {
    bytes_max.and_then(|max| text.get(..max)).unwrap_or(text)
}

/// The only object of the filter state that can be shown.
const TLVS: &str = "envoy.network.proxy_protocol.tlv";

/// What is shown.
#[derive(Clone, Debug)]
pub(super) enum Noted {
    /// `%DYNAMIC_METADATA(namespace:key:…)%`: a namespace, or one of its values.
    Metadata { namespace: Box<str>, path: Box<[Box<str>]> },
    /// `%FILTER_STATE(envoy.network.proxy_protocol.tlv)%`, in JSON as an object.
    Tlvs,
    /// `%FILTER_STATE(envoy.network.proxy_protocol.tlv:PLAIN)%`, in JSON as a text.
    TlvsAsText,
    /// `%FILTER_STATE(envoy.network.proxy_protocol.tlv:FIELD:name)%`
    Tlv(Box<str>),
}

impl Noted {
    /// `DYNAMIC_METADATA`
    pub(super) fn metadata(parameters: &str) -> Self {
        let mut parts = parameters.split(':').map(Box::from);
        let namespace = parts.next().unwrap_or_default();
        Self::Metadata { namespace, path: parts.collect() }
    }

    /// `FILTER_STATE`
    ///
    /// # Errors
    /// The parameters are invalid, or ask for another object.
    pub(super) fn filter_state(parameters: &str) -> Result<Self, String> {
        let (key, form) = Self::check_filter_state(parameters)?;
        if key != TLVS {
            return Err(format!(
                "FILTER_STATE of '{key}' is not implemented by Corvoy, only of '{TLVS}'"
            ));
        }
        Ok(match form {
            Form::Field(name) => Self::Tlv(name.into()),
            Form::Plain => Self::TlvsAsText,
            Form::Typed => Self::Tlvs,
        })
    }

    /// The key of the object, and how it is shown.
    ///
    /// # Errors
    /// The parameters are invalid.
    pub(super) fn check_filter_state(parameters: &str) -> Result<(&str, Form<'_>), String> {
        let mut parts = parameters.splitn(3, ':');
        let key = parts.next().filter(|key| !key.is_empty());
        let key = key.ok_or("Invalid filter state configuration, key cannot be empty.")?;
        let form = match (parts.next(), parts.next()) {
            (None | Some("TYPED"), None) => Form::Typed,
            (Some("PLAIN"), None) => Form::Plain,
            (Some("FIELD"), Some(name)) if !name.is_empty() => Form::Field(name),
            (Some("TYPED" | "PLAIN" | "FIELD"), _) => {
                return Err("Invalid filter state serialize type, FIELD should be used with the \
                            field name."
                    .to_owned());
            }
            _ => {
                return Err("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."
                    .to_owned());
            }
        };
        Ok((key, form))
    }

    /// The value, and whether it is JSON.
    fn value<'a>(&self, stream: &'a dyn StreamInfo) -> Option<(Cow<'a, str>, bool)> {
        let tlvs = || stream.listener_facts()?.tlv_values.as_ref();
        Some(match self {
            Self::Metadata { namespace, path } => {
                let values = stream.dynamic_metadata()?.namespace(namespace)?;
                match &**path {
                    [] => (values.to_json().into(), true),
                    [key] => (values.get(key)?.into(), false),
                    // Every value is a text, and has no parts.
                    [_, _, ..] => return None,
                }
            }
            Self::Tlvs => (tlvs()?.to_json().into(), true),
            Self::TlvsAsText => (tlvs()?.to_json().into(), false),
            Self::Tlv(name) => (tlvs()?.get(name)?.into(), false),
        })
    }

    /// A client that sends a PROXY header chooses these bytes, so none of them ends the line of a log.
    pub(super) fn write(&self, stream: &dyn StreamInfo, out: &mut Vec<u8>) -> Option<()> {
        let (value, _) = self.value(stream)?;
        let start = out.len();
        out.extend_from_slice(value.as_bytes());
        escape_controls(out, start);
        Some(())
    }

    pub(super) fn write_json(
        &self,
        stream: &dyn StreamInfo,
        bytes_max: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match self.value(stream)? {
            (value, true) => out.extend_from_slice(value.as_bytes()),
            (value, false) => json::write_string(cut(value.as_bytes(), bytes_max), out),
        }
        Some(())
    }
}

/// How an object of the filter state is shown.
pub(super) enum Form<'a> {
    Field(&'a str),
    Plain,
    Typed,
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Noted, StreamInfo};
    use crate::listener_facts::{ListenerFacts, Metadata, Values};

    /// A connection without HTTP.
    struct Connection<'a>(&'a ListenerFacts);

    impl StreamInfo for Connection<'_> {
        fn start_time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn dynamic_metadata(&self) -> Option<&Metadata> {
            Some(&self.0.metadata)
        }

        fn listener_facts(&self) -> Option<&ListenerFacts> {
            Some(self.0)
        }
    }

    fn shown(noted: &Noted, facts: &ListenerFacts) -> Option<String> {
        let mut out = Vec::new();
        noted.write(&Connection(facts), &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn metadata_is_shown_by_namespace_and_key() {
        let mut facts = ListenerFacts::default();
        facts.metadata.set("ns", "authority", "a\"b");
        facts.metadata.set("ns", "", "x");
        let shown = |parameters| shown(&Noted::metadata(parameters), &facts);
        assert_eq!(shown("ns").as_deref(), Some(r#"{"authority":"a\"b","":"x"}"#));
        assert_eq!(shown("ns:authority").as_deref(), Some("a\"b"));
        assert_eq!(shown("ns:"), Some("x".to_owned()));
        for nothing in ["other", "ns:other", "ns:authority:part"] {
            assert_eq!(shown(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn values_of_a_proxy_header_are_shown_as_a_whole_or_by_name() {
        let mut values = Values::default();
        values.set("authority", "a.test");
        let facts = ListenerFacts { tlv_values: Some(values), ..ListenerFacts::default() };
        let noted =
            |end: &str| Noted::filter_state(&format!("envoy.network.proxy_protocol.tlv{end}"));
        for whole in ["", ":PLAIN", ":TYPED"] {
            let text = shown(&noted(whole).unwrap(), &facts);
            assert_eq!(text.as_deref(), Some(r#"{"authority":"a.test"}"#), "{whole}");
        }
        assert_eq!(shown(&noted(":FIELD:authority").unwrap(), &facts).as_deref(), Some("a.test"));
        assert_eq!(shown(&noted(":FIELD:other").unwrap(), &facts), None);
        assert_eq!(shown(&noted("").unwrap(), &ListenerFacts::default()), None);
        for invalid in [":FIELD", ":FIELD:", ":PLAIN:x", ":JSON", ":"] {
            assert!(noted(invalid).is_err(), "{invalid}");
        }
        assert!(Noted::filter_state("envoy.other").unwrap_err().contains("not implemented"));
    }
}
