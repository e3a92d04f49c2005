//! Commands that show what listener filters have noted on a connection: dynamic metadata, and the values
//! of a PROXY header in the filter state.

use super::StreamInfo;

/// The only object of the filter state that can be shown.
const TLVS: &str = "envoy.network.proxy_protocol.tlv";

/// What is shown.
#[derive(Clone, Debug)]
pub(super) enum Noted {
    /// `%DYNAMIC_METADATA(namespace:key:…)%`: a namespace, or one of its values.
    Metadata { namespace: Box<str>, path: Box<[Box<str>]> },
    /// `%FILTER_STATE(envoy.network.proxy_protocol.tlv)%`
    Tlvs,
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
        let mut parts = parameters.splitn(3, ':');
        let key = parts.next().unwrap_or_default();
        let noted = match (parts.next(), parts.next()) {
            (None | Some("TYPED" | "PLAIN"), None) => Self::Tlvs,
            (Some("FIELD"), Some(name)) if !name.is_empty() => Self::Tlv(name.into()),
            (Some("TYPED" | "PLAIN" | "FIELD"), _) => {
                return Err(
                    "FILTER_STATE: FIELD, and only that, needs the name of a field".to_owned()
                );
            }
            _ => {
                return Err("FILTER_STATE only supports PLAIN, TYPED or FIELD".to_owned());
            }
        };
        if key == TLVS {
            Ok(noted)
        } else {
            Err(format!("FILTER_STATE of '{key}' is not implemented by Corvoy, only of '{TLVS}'"))
        }
    }

    pub(super) fn write(&self, stream: &dyn StreamInfo, out: &mut Vec<u8>) -> Option<()> {
        let tlvs = || stream.listener_facts()?.tlv_values.as_ref();
        match self {
            Self::Metadata { namespace, path } => {
                let values = stream.dynamic_metadata()?.namespace(namespace)?;
                match &**path {
                    [] => out.extend_from_slice(values.to_json().as_bytes()),
                    [key] => out.extend_from_slice(values.get(key)?.as_bytes()),
                    // Every value is a text, and has no parts.
                    [_, _, ..] => return None,
                }
            }
            Self::Tlvs => out.extend_from_slice(tlvs()?.to_json().as_bytes()),
            Self::Tlv(name) => out.extend_from_slice(tlvs()?.get(name)?.as_bytes()),
        }
        Some(())
    }
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
