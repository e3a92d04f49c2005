//! `rules` of `proxy_protocol`: which values of a PROXY header are noted on the connection, and where.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::listener_facts::{ListenerFacts, Values};
use crate::proxy_protocol::Tlv;

/// The rules of a filter.
#[derive(Debug, Default)]
pub struct Rules {
    /// By type, so that a header of many values costs a look-up for each, however many rules there are.
    rules: HashMap<u8, Rule>,
    location: Location,
}

/// One rule: a value of this type is noted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// `tlv_type`
    pub kind: u8,
    /// `metadata_namespace`; empty: that of the filter.
    pub namespace: String,
    /// `key`
    pub key: String,
    /// `value_string_encoding`
    pub encoding: Encoding,
}

/// `tlv_location`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Location {
    /// Dynamic metadata: by namespace and key.
    #[default]
    DynamicMetadata,
    /// The object `envoy.network.proxy_protocol.tlv` of the filter state: by key.
    FilterState,
}

/// How the bytes of a value become text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Each byte that is not UTF-8 becomes `!`.
    SanitizedUtf8,
    /// Base64, with padding.
    Base64,
}

/// The namespace of the filter.
const NAMESPACE: &str = "envoy.filters.listener.proxy_protocol";

impl Rules {
    /// Of several rules for a type, the last counts, as in Envoy.
    #[must_use]
    pub fn new(rules: Vec<Rule>, location: Location) -> Self {
        Self { rules: rules.into_iter().map(|rule| (rule.kind, rule)).collect(), location }
    }

    /// Notes the values. If a type occurs twice, dynamic metadata gets its first value and filter state its
    /// last one, as in Envoy.
    pub(super) fn apply(&self, tlvs: &[Tlv], facts: &mut ListenerFacts) {
        let mut seen = [false; 1 << u8::BITS];
        for tlv in tlvs {
            let Some(rule) = self.rules.get(&tlv.kind) else { continue };
            let seen = seen.get_mut(usize::from(tlv.kind));
            let is_first = seen.is_some_and(|seen| !std::mem::replace(seen, true));
            match self.location {
                Location::DynamicMetadata if is_first => {
                    let own = &*rule.namespace;
                    let namespace = if own.is_empty() { NAMESPACE } else { own };
                    facts.metadata.set(namespace, &rule.key, rule.encoding.text(&tlv.value));
                }
                Location::DynamicMetadata => {}
                Location::FilterState => {
                    let values = facts.tlv_values.get_or_insert_with(Values::default);
                    values.set(&rule.key, &rule.encoding.text(&tlv.value));
                }
            }
        }
    }
}

impl Encoding {
    fn text(self, value: &[u8]) -> String {
        match self {
            Self::Base64 => BASE64_STANDARD.encode(value),
            Self::SanitizedUtf8 => {
                let mut text = String::with_capacity(value.len());
                for chunk in value.utf8_chunks() {
                    text.push_str(chunk.valid());
                    text.extend(chunk.invalid().iter().map(|_| '!'));
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoding, Location, Rule, Rules};
    use crate::listener_facts::ListenerFacts;
    use crate::proxy_protocol::Tlv;

    fn rule(kind: u8, namespace: &str, key: &str, encoding: Encoding) -> Rule {
        Rule { kind, namespace: namespace.to_owned(), key: key.to_owned(), encoding }
    }

    fn noted(location: Location, tlvs: &[(u8, &[u8])]) -> ListenerFacts {
        let rules = vec![
            rule(2, "", "unused", Encoding::SanitizedUtf8),
            rule(2, "", "authority", Encoding::SanitizedUtf8),
            rule(0xea, "own", "vpc", Encoding::Base64),
        ];
        let tlvs = tlvs.iter().map(|(kind, value)| Tlv { kind: *kind, value: value.to_vec() });
        let mut facts = ListenerFacts::default();
        Rules::new(rules, location).apply(&tlvs.collect::<Vec<_>>(), &mut facts);
        facts
    }

    /// As recorded with Envoy 1.40.
    #[test]
    fn values_are_noted_in_metadata_by_namespace() {
        let facts = noted(
            Location::DynamicMetadata,
            &[(2, b"one"), (2, b"two"), (0xea, b"\x01vpce"), (5, b"other")],
        );
        let of = |namespace| facts.metadata.find(namespace, &[]).unwrap().to_string();
        assert_eq!(of("envoy.filters.listener.proxy_protocol"), r#"{"authority":"one"}"#);
        assert_eq!(of("own"), r#"{"vpc":"AXZwY2U="}"#);
        assert_eq!(facts.tlv_values, None);
    }

    /// As recorded with Envoy 1.40.
    #[test]
    fn values_are_noted_in_filter_state_without_a_namespace() {
        let facts = noted(Location::FilterState, &[(2, b"one"), (2, b"two"), (0xea, b"\x01x")]);
        let values = facts.tlv_values.unwrap();
        assert_eq!(values.to_json(), r#"{"authority":"two","vpc":"AXg="}"#);
        assert_eq!(facts.metadata, Default::default());
        assert_eq!(noted(Location::FilterState, &[(5, b"other")]), ListenerFacts::default());
    }

    /// As recorded with Envoy 1.40.
    #[test]
    fn bytes_that_are_not_utf8_become_exclamation_marks() {
        let text = Encoding::SanitizedUtf8.text(b"a\xff\xfeb\xc3(\xe2\x82\xacz\xe2\x82");
        assert_eq!(text, "a!!b!(\u{20ac}z!!");
    }
}
