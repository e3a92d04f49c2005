//! `json_to_metadata`: notes values of a JSON body as dynamic metadata.
//!
//! The filter holds the body until all of it is there; what it is not looks at goes past.

pub(super) mod compile;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Back, Context, Flow, HeldFor, RouteConfig, Wait, Way};
use crate::http::{BodyLength, FieldName, Fields};
use crate::metadata::Metadata;
use crate::stats::{Counter, Scope, stats};
use crate::text_matcher::FullRegex;

stats! {
    /// `json_to_metadata.`
    pub struct JsonToMetadataStats {
        counter rq_invalid_json_body = "rq.invalid_json_body";
        counter rq_mismatched_content_type = "rq.mismatched_content_type";
        counter rq_no_body = "rq.no_body";
        counter rq_success = "rq.success";
        counter resp_invalid_json_body = "resp.invalid_json_body";
        counter resp_mismatched_content_type = "resp.mismatched_content_type";
        counter resp_no_body = "resp.no_body";
        counter resp_success = "resp.success";
    }
}

/// The filter.
#[derive(Debug)]
pub struct JsonToMetadata {
    rules: Rules,
    stats: Arc<Scope<JsonToMetadataStats>>,
}

/// The rules of the filter, or of a level of a route.
#[derive(Debug)]
pub struct Rules {
    request: OneWay,
    response: OneWay,
}

/// The rules for one direction.
#[derive(Debug, Default)]
struct OneWay {
    rules: Box<[Rule]>,
    content_types: Box<[Box<[u8]>]>,
    content_type_regex: Option<FullRegex>,
    /// Whether a body without content type is read.
    without_content_type: bool,
}

/// What is noted about one value.
#[derive(Debug)]
struct Rule {
    /// The keys that lead to it, at least one.
    path: Box<[Box<str>]>,
    present: Option<Note>,
    missing: Option<Note>,
    /// If the body is not JSON.
    error: Option<Note>,
}

/// What is noted, and where.
#[derive(Debug)]
struct Note {
    namespace: Box<str>,
    key: Box<str>,
    /// This value; none: the one that was found.
    value: Option<Value>,
    form: Form,
    /// Whether a value that is noted already stays.
    keeps_existing: bool,
}

/// What the value becomes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    AsItIs,
    Number,
    String,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Result {
    InvalidJson,
    MismatchedContentType,
    NoBody,
    Success,
}

/// What the filter remembers of a request: how far each direction is.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::request) struct State {
    request: Progress,
    response: Progress,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Progress {
    #[default]
    New,
    Holding,
    Done,
}

//= envoy: a text of more bytes is not noted.
const TEXT_BYTES_MAX: usize = 8 * 1024;

impl JsonToMetadata {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let rules = &self.rules(cx.configs).request;
        let has_body = !matches!(cx.core.body, BodyLength::None | BodyLength::Length(0));
        let holds = self.pass(Way::Request, &mut state.request, rules, has_body, cx);
        if holds {
            let bytes_max = match cx.core.service().buffer_limit {
                0 => usize::MAX,
                limit => limit,
            };
            return Flow::Wait(Wait::Body { bytes_max });
        }
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        let rules = &self.rules(cx.configs).response;
        let has_body = !matches!(cx.response_body, BodyLength::None | BodyLength::Length(0));
        let holds = self.pass(Way::Response, &mut state.response, rules, has_body, cx);
        if holds { Back::Hold(HeldFor::Body) } else { Back::Continue }
    }

    /// As in Envoy, the most specific level of a route replaces the rules of the filter.
    fn rules<'a>(&'a self, configs: &'a [Arc<RouteConfig>]) -> &'a Rules {
        let of_route = |config: &'a Arc<RouteConfig>| match &**config {
            RouteConfig::JsonToMetadata(rules) => Some(&**rules),
            _ => None,
        };
        configs.iter().find_map(of_route).unwrap_or(&self.rules)
    }

    /// A message reaches the filter, or its body has come. Returns whether the filter waits for the body.
    fn pass(
        &self,
        way: Way,
        progress: &mut Progress,
        rules: &OneWay,
        has_body: bool,
        cx: &mut Context<'_, '_>,
    ) -> bool {
        if rules.rules.is_empty() || *progress == Progress::Done {
            return false;
        }
        let is_new = *progress == Progress::New;
        let fields = match way {
            Way::Request => &cx.core.heads.request.fields,
            Way::Response => &cx.core.heads.response.fields,
        };
        if is_new && rules.reads(fields) && has_body && !cx.held.has_ended() {
            *progress = Progress::Holding;
            return true;
        }
        let body = if has_body || !is_new { &*cx.held.data } else { &[][..] };
        let (result, notes) = if is_new && !rules.reads(fields) {
            // As in Envoy, these bodies have no value that could be missing.
            (Result::MismatchedContentType, rules.all(|rule| rule.error.as_ref()))
        } else {
            rules.apply(body)
        };
        *progress = Progress::Done;
        self.stats.shard(cx.core.shard.id).counter(way, result).inc();
        if notes.is_empty() {
            return false;
        }
        note(notes, &mut cx.core.note().metadata);
        if way == Way::Request {
            cx.clear_route_cache();
        }
        false
    }
}

impl JsonToMetadataStats {
    const fn counter(&self, way: Way, result: Result) -> &Counter {
        match (way, result) {
            (Way::Request, Result::InvalidJson) => &self.rq_invalid_json_body,
            (Way::Request, Result::MismatchedContentType) => &self.rq_mismatched_content_type,
            (Way::Request, Result::NoBody) => &self.rq_no_body,
            (Way::Request, Result::Success) => &self.rq_success,
            (Way::Response, Result::InvalidJson) => &self.resp_invalid_json_body,
            (Way::Response, Result::MismatchedContentType) => &self.resp_mismatched_content_type,
            (Way::Response, Result::NoBody) => &self.resp_no_body,
            (Way::Response, Result::Success) => &self.resp_success,
        }
    }
}

/// Notes values, unless there are some already that are to stay.
fn note(notes: Vec<(&Note, Value)>, metadata: &mut Metadata) {
    let stays = |note: &Note| {
        note.keeps_existing
            && metadata.find(&note.namespace, std::slice::from_ref(&note.key)).is_some()
    };
    let notes: Vec<_> = notes.into_iter().filter(|(note, _)| !stays(note)).collect();
    for (note, value) in notes {
        let values: Map<_, _> = [(note.key.to_string(), value)].into_iter().collect();
        metadata.merge(&note.namespace, &values);
    }
}

impl OneWay {
    /// Whether bodies of this content type are read.
    fn reads(&self, fields: &Fields) -> bool {
        match fields.get(FieldName::ContentType) {
            None | Some(b"") => self.without_content_type,
            Some(content_type) => {
                self.content_types.iter().any(|allowed| **allowed == *content_type)
                    || self.content_type_regex.as_ref().is_some_and(|it| it.matches(content_type))
            }
        }
    }

    /// What the rules make of a body.
    fn apply(&self, body: &[u8]) -> (Result, Vec<(&Note, Value)>) {
        if body.is_empty() {
            return (Result::NoBody, self.all(|rule| rule.missing.as_ref()));
        }
        let parsed = serde_json::from_slice::<Value>(body);
        let Some(body) = parsed.ok().filter(|body| !has_too_large_number(body)) else {
            return (Result::InvalidJson, self.all(|rule| rule.error.as_ref()));
        };
        if !(body.is_object() || body.is_array()) {
            return (Result::Success, self.all(|rule| rule.missing.as_ref()));
        }
        (Result::Success, self.rules.iter().filter_map(|rule| rule.apply(&body)).collect())
    }

    /// What all rules note in one case.
    fn all(&self, note: fn(&Rule) -> Option<&Note>) -> Vec<(&Note, Value)> {
        self.rules.iter().filter_map(note).filter_map(Note::fixed).collect()
    }
}

impl Rule {
    fn apply(&self, body: &Value) -> Option<(&Note, Value)> {
        let missing = || self.missing.as_ref().and_then(Note::fixed);
        let Some((last, path)) = self.path.split_last() else { return missing() };
        let parent = path
            .iter()
            .try_fold(body, |value, key| value.get(&**key).filter(|value| value.is_object()));
        let Some(parent) = parent else { return missing() };
        let present = self.present.as_ref()?;
        if let Some(fixed) = present.fixed() {
            // As in Envoy, whatever the value is, and even if there is none.
            return Some(fixed);
        }
        match parent.get(&**last).map(|found| present.form.of(found)) {
            Some(Ok(value)) => Some((present, value?)),
            Some(Err(Unusable)) | None => missing(),
        }
    }
}

impl Note {
    /// With its own value, if it has one.
    fn fixed(&self) -> Option<(&Self, Value)> {
        Some((self, self.value.clone()?))
    }
}

/// Whether there is a whole number that Envoy does not read, as it exceeds 63 bits.
fn has_too_large_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_u64() && !number.is_i64(),
        Value::Array(values) => values.iter().any(has_too_large_number),
        Value::Object(values) => values.values().any(has_too_large_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// A value that cannot become what it should.
struct Unusable;

impl Form {
    /// What a value becomes; none: nothing is noted.
    fn of(self, found: &Value) -> std::result::Result<Option<Value>, Unusable> {
        match self {
            Self::AsItIs => match found {
                Value::Bool(_) => Ok(Some(found.clone())),
                Value::Number(number) => Ok(number.as_f64().map(Value::from)),
                Value::String(text) if text.len() <= TEXT_BYTES_MAX => Ok(Some(found.clone())),
                _ => Err(Unusable),
            },
            Self::Number => match found {
                Value::Bool(yes) => Ok(Some(f64::from(u8::from(*yes)).into())),
                Value::Number(number) => Ok(number.as_f64().map(Value::from)),
                Value::String(text) => {
                    let number: f64 = text.trim().parse().map_err(|_| Unusable)?;
                    Ok(Some(number.into()))
                }
                _ => Err(Unusable),
            },
            Self::String => {
                let text = match found {
                    Value::Bool(yes) => u8::from(*yes).to_string(),
                    Value::Number(number) => match number.as_i64() {
                        Some(integer) => integer.to_string(),
                        None => format!("{:.6}", number.as_f64().unwrap_or_default()),
                    },
                    Value::String(text) => text.clone(),
                    _ => return Err(Unusable),
                };
                if text.len() > TEXT_BYTES_MAX {
                    return Err(Unusable);
                }
                Ok((!text.is_empty()).then(|| text.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn note(value: Option<Value>, form: Form) -> Option<Note> {
        let (namespace, key) = ("ns".into(), "key".into());
        Some(Note { namespace, key, value, form, keeps_existing: false })
    }

    fn rules(path: &[&str], form: Form) -> OneWay {
        let rule = Rule {
            path: path.iter().map(|&key| key.into()).collect(),
            present: note(None, form),
            missing: note(Some("missing".into()), Form::AsItIs),
            error: note(Some("error".into()), Form::AsItIs),
        };
        OneWay { rules: [rule].into(), ..OneWay::default() }
    }

    #[test]
    fn a_value_is_found_by_its_keys_and_becomes_one_of_its_type() {
        for (path, form, body, expected) in [
            (&["a"][..], Form::AsItIs, r#"{"a": "x"}"#, Some(json!("x"))),
            (&["a", "b"], Form::AsItIs, r#"{"a": {"b": 1}}"#, Some(json!(1.0))),
            (&["a", "b"], Form::AsItIs, r#"{"a": 1}"#, Some(json!("missing"))),
            (&["a"], Form::AsItIs, r#"{"a": [1]}"#, Some(json!("missing"))),
            (&["a"], Form::AsItIs, "5", Some(json!("missing"))),
            (&["a"], Form::AsItIs, "", Some(json!("missing"))),
            (&["a"], Form::AsItIs, "{", Some(json!("error"))),
            (&["a"], Form::AsItIs, r#"{"b": 9223372036854775808}"#, Some(json!("error"))),
            (&["a"], Form::Number, r#"{"a": " 1.5 "}"#, Some(json!(1.5))),
            (&["a"], Form::Number, r#"{"a": "x"}"#, Some(json!("missing"))),
            (&["a"], Form::String, r#"{"a": 1.25}"#, Some(json!("1.250000"))),
            (&["a"], Form::String, r#"{"a": true}"#, Some(json!("1"))),
            (&["a"], Form::String, r#"{"a": ""}"#, None),
        ] {
            let rules = rules(path, form);
            let (_, notes) = rules.apply(body.as_bytes());
            let values: Vec<_> = notes.into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, Vec::from_iter(expected), "{body}");
        }
    }
}
