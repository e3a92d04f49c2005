//! Claims as headers and as metadata.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// A claim that a header gets.
#[derive(Debug)]
pub(super) struct ClaimHeader {
    /// In lower case.
    pub(super) header: Box<[u8]>,
    /// The keys that lead to the claim.
    pub(super) path: Box<[Box<str>]>,
}

impl ClaimHeader {
    /// What the header gets; none: there is no such claim, or it is empty.
    pub(super) fn value(&self, payload: &Map<String, Value>) -> Option<Vec<u8>> {
        let (first, others) = self.path.split_first()?;
        let claim = payload.get(&**first);
        let claim = others.iter().try_fold(claim?, |value, key| value.get(&**key))?;
        let text = match claim {
            Value::Null => return None,
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => number(value.as_f64()?),
            Value::String(text) => text.trim().to_owned(),
            Value::Array(_) | Value::Object(_) => STANDARD.encode(claim.to_string()),
        };
        (!text.is_empty()).then(|| text.into_bytes())
    }
}

/// As in Envoy: a whole number that is not negative, or six digits after the point.
fn number(value: f64) -> String {
    /// 2^64
    const END: f64 = 18_446_744_073_709_551_616.0;
    if value.fract() == 0.0 && (0.0..END).contains(&value) {
        format!("{value:.0}")
    } else {
        format!("{value:.6}")
    }
}

/// The payload with these claims as lists of their words.
pub(super) fn normalized(payload: &Map<String, Value>, space_delimited: &[Box<str>]) -> Value {
    let mut payload = payload.clone();
    for claim in space_delimited {
        if let Some(value) = payload.get_mut(&**claim)
            && let Some(text) = value.as_str()
        {
            *value = text.split(' ').filter(|word| !word.is_empty()).collect();
        }
    }
    Value::Object(payload)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_written_as_in_envoy() {
        let payload = json!({
            "text": " a b ", "true": true, "null": null, "empty": "", "list": [1, "a"],
            "a.b": { "c": { "d.e": "deep" } }, "n": { "m": 7 },
            "numbers": { "half": 1.5, "minus": -3, "large": 1e20, "more": 12_345_678_901_234_567_u64, "one": 1.0 },
        });
        let value = |path: &[&str]| {
            let path = path.iter().map(|&key| key.into()).collect();
            let value = ClaimHeader { header: Box::default(), path }.value(payload.as_object()?)?;
            String::from_utf8(value).ok()
        };
        for (path, expected) in [
            (&["text"][..], Some("a b")),
            (&["true"], Some("true")),
            (&["null"], None),
            (&["empty"], None),
            (&["none"], None),
            (&["text", "x"], None),
            (&["list"], Some("WzEsImEiXQ==")),
            (&["a.b", "c", "d.e"], Some("deep")),
            (&["n"], Some("eyJtIjo3fQ==")),
            (&["numbers", "half"], Some("1.500000")),
            (&["numbers", "minus"], Some("-3.000000")),
            (&["numbers", "large"], Some("100000000000000000000.000000")),
            (&["numbers", "more"], Some("12345678901234568")),
            (&["numbers", "one"], Some("1")),
        ] {
            assert_eq!(value(path).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn words_become_a_list() {
        let payload = json!({ "scope": "a b  c", "number": 1, "other": "x y" });
        let lists: [Box<str>; 3] = ["scope".into(), "number".into(), "none".into()];
        let expected = json!({ "scope": ["a", "b", "c"], "number": 1, "other": "x y" });
        assert_eq!(normalized(payload.as_object().unwrap(), &lists), expected);
    }
}
