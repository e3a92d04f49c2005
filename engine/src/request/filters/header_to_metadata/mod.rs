//! `header_to_metadata`: notes the values of headers and cookies as dynamic metadata.

pub(super) mod compile;
mod protobuf;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use serde_json::{Number, Value};

use super::{Context, Flow, RouteConfig, Way};
use crate::http::Fields;
use crate::request::route::RegexRewrite;
use crate::request::route::matchers::cookie_value;
use crate::stats::{Counter, Scope, stats};

stats! {
    /// `http_filter_name.<stat_prefix>.`
    pub struct HeaderToMetadataStats {
        counter base64_decode_failed;
        counter header_value_too_long;
        counter regex_substitution_failed;
        counter request_header_not_found;
        counter request_metadata_added;
        counter request_rules_processed;
        counter response_header_not_found;
        counter response_metadata_added;
        counter response_rules_processed;
    }
}

/// The filter.
#[derive(Debug)]
pub struct HeaderToMetadata(Rules);

/// The rules of the filter, or of a level of a route.
#[derive(Debug)]
pub struct Rules {
    request: Box<[Rule]>,
    response: Box<[Rule]>,
    /// Only with a `stat_prefix`.
    stats: Option<Arc<Scope<HeaderToMetadataStats>>>,
}

/// What is noted about one header or cookie.
#[derive(Debug)]
struct Rule {
    from: From,
    present: Option<Note>,
    missing: Option<Note>,
}

/// Where the value is.
#[derive(Debug)]
enum From {
    /// In the headers of this name, in lower case.
    Header {
        name: Box<[u8]>,
        /// Whether they are removed.
        remove: bool,
    },
    Cookie(Box<[u8]>),
}

/// What is noted, and where.
#[derive(Debug)]
struct Note {
    namespace: Box<str>,
    key: Box<str>,
    text: Text,
    encoding: Encoding,
    form: Form,
}

/// What text is noted.
#[derive(Debug)]
enum Text {
    /// That of the header.
    OfHeader,
    /// That of the header, changed.
    Rewritten(RegexRewrite),
    /// This one.
    Fixed(Box<str>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    None,
    Base64,
}

/// What the text becomes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    String,
    Number,
    /// It is a `google.protobuf.Value`.
    ProtobufValue,
}

//= envoy: a value of so many bytes or more is not noted.
const TOO_LONG: usize = 8 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

impl HeaderToMetadata {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        self.rules(cx.configs).note(Way::Request, cx);
        Flow::Continue
    }

    pub(super) fn response_head(&self, cx: &mut Context<'_, '_>) {
        self.rules(cx.configs).note(Way::Response, cx);
    }

    /// As in Envoy, the most specific level of a route replaces the rules of the filter.
    fn rules<'a>(&'a self, configs: &'a [Arc<RouteConfig>]) -> &'a Rules {
        let of_route = |config: &'a Arc<RouteConfig>| match &**config {
            RouteConfig::HeaderToMetadata(rules) => Some(&**rules),
            _ => None,
        };
        configs.iter().find_map(of_route).unwrap_or(&self.0)
    }
}

impl Rules {
    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    fn note(&self, way: Way, cx: &mut Context<'_, '_>) {
        let rules = match way {
            Way::Request => &self.request,
            Way::Response => &self.response,
        };
        let stats = self.stats.as_ref().map(|stats| stats.shard(cx.core.shard.id));
        let count = |of: fn(&HeaderToMetadataStats, Way) -> &Counter| {
            if let Some(stats) = stats {
                of(stats, way).inc();
            }
        };
        let mut values = Vec::new();
        for rule in rules {
            let fields = match way {
                Way::Request => &mut cx.core.heads.request.fields,
                Way::Response => &mut cx.core.heads.response.fields,
            };
            count(HeaderToMetadataStats::rules_processed);
            let found = rule.from.take(fields);
            let note = if found.is_some() { &rule.present } else { &rule.missing };
            let Some(note) = note else { continue };
            if found.is_none() {
                count(HeaderToMetadataStats::header_not_found);
            }
            match note.value(&found.unwrap_or_default()) {
                Ok(value) => {
                    count(HeaderToMetadataStats::metadata_added);
                    values.push((note, value));
                }
                Err(Unusable::Other) => {}
                Err(Unusable::TooLong) => count(|stats, _| &stats.header_value_too_long),
                Err(Unusable::NotBase64) => count(|stats, _| &stats.base64_decode_failed),
                Err(Unusable::NotRewritten) => count(|stats, _| &stats.regex_substitution_failed),
            }
        }
        for (note, value) in values {
            cx.core.note().metadata.set(&note.namespace, &note.key, value);
        }
    }
}

impl HeaderToMetadataStats {
    const fn rules_processed(&self, way: Way) -> &Counter {
        match way {
            Way::Request => &self.request_rules_processed,
            Way::Response => &self.response_rules_processed,
        }
    }

    const fn metadata_added(&self, way: Way) -> &Counter {
        match way {
            Way::Request => &self.request_metadata_added,
            Way::Response => &self.response_metadata_added,
        }
    }

    const fn header_not_found(&self, way: Way) -> &Counter {
        match way {
            Way::Request => &self.request_header_not_found,
            Way::Response => &self.response_header_not_found,
        }
    }
}

impl From {
    /// The value; of several headers, all, joined by commas.
    fn take(&self, fields: &mut Fields) -> Option<Vec<u8>> {
        let (name, remove) = match self {
            Self::Cookie(name) => {
                return cookie_value(fields, name)
                    .filter(|value| !value.is_empty())
                    .map(Into::into);
            }
            Self::Header { name, remove } => (&**name, *remove),
        };
        let mut values = fields.iter().filter(|field| field.1 == name).map(|field| field.2);
        let mut joined = values.next()?.to_vec();
        for value in values {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        if remove {
            fields.remove_other(name);
        }
        Some(joined)
    }
}

/// Why nothing is noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unusable {
    NotBase64,
    /// The rewritten text is empty.
    NotRewritten,
    TooLong,
    Other,
}

impl Note {
    fn value(&self, found: &[u8]) -> Result<Value, Unusable> {
        let mut text: Cow<'_, [u8]> = match &self.text {
            Text::Fixed(text) => text.as_bytes().into(),
            Text::OfHeader => found.into(),
            Text::Rewritten(rewrite) => {
                let mut text = Vec::new();
                rewrite.replace_all(found, &mut text);
                if text.is_empty() && !found.is_empty() {
                    return Err(Unusable::NotRewritten);
                }
                text.into()
            }
        };
        if text.is_empty() {
            return Err(Unusable::Other);
        }
        if text.len() >= TOO_LONG {
            return Err(Unusable::TooLong);
        }
        if self.encoding == Encoding::Base64 {
            let decoded = BASE64.decode(&text).ok().filter(|decoded| !decoded.is_empty());
            text = decoded.ok_or(Unusable::NotBase64)?.into();
        }
        match self.form {
            Form::String => Ok(String::from_utf8_lossy(&text).into()),
            Form::Number => number(&text).map(Value::Number).ok_or(Unusable::Other),
            Form::ProtobufValue => protobuf::value(&text).ok_or(Unusable::Other),
        }
    }
}

/// A decimal number.
fn number(text: &[u8]) -> Option<Number> {
    Number::from_f64(std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn note(text: Text, encoding: Encoding, form: Form) -> Note {
        Note { namespace: "ns".into(), key: "key".into(), text, encoding, form }
    }

    #[test]
    fn a_text_is_decoded_and_becomes_a_value_of_its_type() {
        use self::Encoding::{Base64, None};
        for (text, encoding, form, expected) in [
            ("a b", None, Form::String, Ok(json!("a b"))),
            ("YWI=", Base64, Form::String, Ok(json!("ab"))),
            ("YWI", Base64, Form::String, Ok(json!("ab"))),
            ("YW I", Base64, Form::String, Err(Unusable::NotBase64)),
            (" 1.50 ", None, Form::Number, Ok(json!(1.5))),
            ("1e3", None, Form::Number, Ok(json!(1000.0))),
            ("one", None, Form::Number, Err(Unusable::Other)),
            ("inf", None, Form::Number, Err(Unusable::Other)),
            ("IAE=", Base64, Form::ProtobufValue, Ok(json!(true))),
            ("true", None, Form::ProtobufValue, Err(Unusable::Other)),
            ("", None, Form::String, Err(Unusable::Other)),
        ] {
            let noted = note(Text::OfHeader, encoding, form).value(text.as_bytes());
            assert_eq!(noted, expected, "{text}");
        }
        let long = vec![b'a'; TOO_LONG];
        let of_header = note(Text::OfHeader, None, Form::String);
        assert_eq!(of_header.value(&long), Err(Unusable::TooLong));
        assert!(of_header.value(&long[1..]).is_ok());
    }

    #[test]
    fn a_header_is_joined_and_removed() {
        let mut fields = Fields::of_lines(b"x-a: 1\r\nx-b: 2\r\nx-a: 3\r\ncookie: c=; d=4\r\n");
        let header = |remove| From::Header { name: b"x-a"[..].into(), remove };
        assert_eq!(header(false).take(&mut fields).as_deref(), Some(&b"1,3"[..]));
        assert_eq!(header(true).take(&mut fields).as_deref(), Some(&b"1,3"[..]));
        assert_eq!(header(true).take(&mut fields), None);
        let cookie = |name: &[u8]| From::Cookie(name.into());
        assert_eq!(cookie(b"d").take(&mut fields).as_deref(), Some(&b"4"[..]));
        assert_eq!(cookie(b"c").take(&mut fields), None, "an empty cookie counts as missing");
    }
}
