//! Commands that show metadata, of the configuration or noted by filters, and filter state.

use std::borrow::Cow;

use serde_json::Value;

use super::json_text as json;
use super::{Inputs, StreamInfo};
use crate::filter_state::{self, TlsObject, UPSTREAM_ADDRESS};
use crate::metadata::MetadataOf;
use crate::untrusted::escape_controls;

/// `%METADATA(TYPE:namespace:key:…)%`: a namespace, or a value in it.
#[derive(Clone, Debug)]
pub(super) struct MetadataPath {
    of: Source,
    namespace: Box<str>,
    path: Box<[Box<str>]>,
}

/// Whose metadata it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// That of a part of the configuration.
    Static(MetadataOf),
    /// What filters have noted.
    Dynamic,
}

impl MetadataPath {
    /// `parameters` are the namespace and the keys.
    pub(super) fn new(of: Source, parameters: &str) -> Self {
        let mut parts = parameters.split(':').map(Box::from);
        let namespace = parts.next().unwrap_or_default();
        Self { of, namespace, path: parts.collect() }
    }

    fn value<'a>(&self, inputs: &Inputs<'a>) -> Option<&'a Value> {
        let metadata = match self.of {
            Source::Static(of) => inputs.stream.static_metadata(of)?,
            Source::Dynamic => inputs.stream.dynamic_metadata()?,
        };
        metadata.find(&self.namespace, &self.path).filter(|value| !value.is_null())
    }

    /// A text as it is, anything else as JSON. Clients can choose the texts of dynamic metadata, so none of
    /// their bytes ends the line of a log.
    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        match self.value(inputs)? {
            Value::String(text) => {
                let start = out.len();
                out.extend_from_slice(text.as_bytes());
                if let Source::Dynamic = self.of {
                    escape_controls(out, start);
                }
            }
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

/// The object of the filter state that a listener filter sets.
const TLVS: &str = "envoy.network.proxy_protocol.tlv";

/// `%FILTER_STATE(key:form)%`
#[derive(Clone, Debug)]
pub(super) enum StateObject {
    /// `envoy.network.proxy_protocol.tlv`, in JSON as an object.
    Tlvs,
    /// `envoy.network.proxy_protocol.tlv:PLAIN`, in JSON as a text.
    TlvsAsText,
    /// `envoy.network.proxy_protocol.tlv:FIELD:name`
    Tlv(Box<str>),
    /// Another object, `PLAIN`: its text.
    Text(Box<str>),
    /// The same, `TYPED`: a JSON string.
    Typed(Box<str>),
    /// An object that is JSON.
    Json(Box<str>),
    /// One that Envoy does not show so.
    Hidden,
}

impl StateObject {
    /// `FILTER_STATE`
    ///
    /// # Errors
    /// The parameters are invalid, or ask for an object that only Envoy has.
    pub(super) fn new(parameters: &str) -> Result<Self, String> {
        let (key, form) = Self::check(parameters)?;
        Ok(match form {
            Form::Field(name) if key == TLVS => Self::Tlv(name.into()),
            Form::Plain if key == TLVS => Self::TlvsAsText,
            Form::Typed if key == TLVS => Self::Tlvs,
            Form::Typed if filter_state::is_json(key) => Self::Json(key.into()),
            Form::Plain if filter_state::is_json(key) => Self::Text(key.into()),
            _ if key == UPSTREAM_ADDRESS => Self::Hidden,
            _ if key.starts_with("envoy.") && !filter_state::is_settable(key) => {
                return Err(format!("FILTER_STATE of '{key}' is not implemented by Corvoy"));
            }
            Form::Field(_) => {
                return Err(format!("FILTER_STATE: the object '{key}' has no fields"));
            }
            Form::Plain if TlsObject::of(key) == Some(TlsObject::ApplicationProtocols) => {
                Self::Hidden
            }
            Form::Plain => Self::Text(key.into()),
            Form::Typed if TlsObject::of(key).is_some() => Self::Hidden,
            Form::Typed => Self::Typed(key.into()),
        })
    }

    /// The key of the object, and how it is shown.
    ///
    /// # Errors
    /// The parameters are invalid.
    pub(super) fn check(parameters: &str) -> Result<(&str, Form<'_>), String> {
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
            Self::Tlvs => (tlvs()?.to_json().into(), true),
            Self::TlvsAsText => (tlvs()?.to_json().into(), false),
            Self::Tlv(name) => (tlvs()?.get(name)?.into(), false),
            Self::Text(key) => (stream.filter_state(key)?.into(), false),
            Self::Hidden => return None,
            Self::Json(key) => (filter_state::json_of(key, stream.filter_state(key)?), true),
            Self::Typed(key) => {
                let mut quoted = Vec::new();
                json::write_string(stream.filter_state(key)?.as_bytes(), &mut quoted);
                (String::from_utf8(quoted).ok()?.into(), true)
            }
        })
    }

    /// A client may choose these bytes, so none of them ends the line of a log.
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

    use serde_json::json;

    use super::{Inputs, MetadataPath, Source, StateObject, StreamInfo};
    use crate::listener_facts::{ListenerFacts, Values};
    use crate::metadata::Metadata;

    /// A connection without HTTP, with one object in its filter state.
    struct Connection(ListenerFacts);

    impl StreamInfo for Connection {
        fn start_time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn dynamic_metadata(&self) -> Option<&Metadata> {
            Some(&self.0.metadata)
        }

        fn filter_state(&self, key: &str) -> Option<&str> {
            (key == "own").then_some("a\"b\n")
        }

        fn listener_facts(&self) -> Option<&ListenerFacts> {
            Some(&self.0)
        }
    }

    fn shown(object: &StateObject, connection: &Connection) -> Option<String> {
        let mut out = Vec::new();
        object.write(connection, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dynamic_metadata_is_shown_by_namespace_and_keys() {
        let mut connection = Connection(ListenerFacts::default());
        let metadata = &mut connection.0.metadata;
        metadata.set("ns", "authority", "a\"b\n");
        metadata.set("ns", "", json!({ "list": [1, null, true] }));
        metadata.set("ns", "nothing", json!(null));
        let shown = |parameters| {
            let mut out = Vec::new();
            let path = MetadataPath::new(Source::Dynamic, parameters);
            path.write(&Inputs::new(&connection), &mut out)?;
            Some(String::from_utf8(out).unwrap())
        };
        assert_eq!(
            shown("ns").as_deref(),
            Some(r#"{"":{"list":[1,null,true]},"authority":"a\"b\n","nothing":null}"#)
        );
        assert_eq!(shown("ns:authority").as_deref(), Some("a\"b\\0A"));
        assert_eq!(shown("ns::list").as_deref(), Some("[1,null,true]"));
        for nothing in ["other", "ns:other", "ns:authority:part", "ns:nothing"] {
            assert_eq!(shown(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn values_of_a_proxy_header_are_shown_as_a_whole_or_by_name() {
        let mut values = Values::default();
        values.set("authority", "a.test");
        let facts = ListenerFacts { tlv_values: Some(values), ..ListenerFacts::default() };
        let connection = Connection(facts);
        let object =
            |end: &str| StateObject::new(&format!("envoy.network.proxy_protocol.tlv{end}"));
        for whole in ["", ":PLAIN", ":TYPED"] {
            let text = shown(&object(whole).unwrap(), &connection);
            assert_eq!(text.as_deref(), Some(r#"{"authority":"a.test"}"#), "{whole}");
        }
        let field = |name| shown(&object(&format!(":FIELD:{name}")).unwrap(), &connection);
        assert_eq!(field("authority").as_deref(), Some("a.test"));
        assert_eq!(field("other"), None);
        let empty = Connection(ListenerFacts::default());
        assert_eq!(shown(&object("").unwrap(), &empty), None);
        for invalid in [":FIELD", ":FIELD:", ":PLAIN:x", ":JSON", ":"] {
            assert!(object(invalid).is_err(), "{invalid}");
        }
        assert!(StateObject::new("envoy.other").unwrap_err().contains("not implemented"));
    }

    #[test]
    fn an_object_is_shown_as_text_or_as_a_json_string() {
        let connection = Connection(ListenerFacts::default());
        let shown = |parameters| shown(&StateObject::new(parameters).unwrap(), &connection);
        assert_eq!(shown("own:PLAIN").as_deref(), Some("a\"b\\0A"));
        assert_eq!(shown("own").as_deref(), Some(r#""a\"b\n""#));
        assert_eq!(shown("other"), None);
        assert!(StateObject::new("own:FIELD:a").is_err());
    }
}
