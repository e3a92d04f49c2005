//! What a value of a runtime key means, for whoever wants a number, a yes or no, or a fraction.
//!
//! A value that is not of that kind counts as not set, as in Envoy.

use serde_json::{Map, Value};

use crate::fraction::Fraction;

pub(super) fn integer(value: &Value) -> Option<u64> {
    let number = number(value)?;
    let text = value.as_str().map(str::trim);
    if let Some(whole) = text.and_then(|text| text.parse().ok()) {
        return Some(whole);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in the range"
    )]
    (0.0..18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
}

pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

pub(super) fn flag(value: &Value) -> Option<bool> {
    let text = value.as_str()?.trim();
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("false").then_some(false)
}

/// An object with a numerator and a denominator, or percent.
pub(super) fn fraction(value: &Value) -> Option<Fraction> {
    if let Some(fields) = value.as_str().and_then(object) {
        return object_fraction(&fields);
    }
    let percent = u32::try_from(integer(value)?).unwrap_or(u32::MAX);
    Some(Fraction { numerator: percent, denominator: 100 })
}

/// An object as JSON, or as one of the forms that YAML has for it: `{a: 1}`, or a line for each member.
fn object(text: &str) -> Option<Map<String, Value>> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
        return Some(fields);
    }
    let inner = text.trim();
    let inner = inner.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(inner);
    let members = inner.split([',', '\n']).map(str::trim).filter(|member| !member.is_empty());
    let member = |member: &str| {
        let (name, value) = member.split_once(':')?;
        let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        let value = unquoted(value);
        let value = value.parse::<u32>().map_or_else(|_| Value::from(value), Value::from);
        Some((unquoted(name), value))
    };
    members.map(member).collect()
}

/// A fraction as an object. As in Envoy, one that is not valid counts as not set.
fn object_fraction(fields: &Map<String, Value>) -> Option<Fraction> {
    if fields.keys().any(|key| key != "numerator" && key != "denominator") {
        return None;
    }
    let denominator = match fields.get("denominator") {
        None => 100,
        Some(name) => match name.as_str()? {
            "HUNDRED" => 100,
            "TEN_THOUSAND" => 10_000,
            "MILLION" => 1_000_000,
            _ => return None,
        },
    };
    let numerator = fields.get("numerator").map_or(Some(0.0), Value::as_f64)?;
    if numerator.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&numerator) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and in the range"
    )]
    Some(Fraction { numerator: numerator as u32, denominator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_has_all_the_forms_of_yaml() {
        let of = |text: &str| fraction(&text.into()).map(|it| (it.numerator, it.denominator));
        let whole = Some((3, 10_000));
        assert_eq!(of(r#"{"numerator":3,"denominator":"TEN_THOUSAND"}"#), whole);
        assert_eq!(of("{numerator: 3, denominator: TEN_THOUSAND}"), whole);
        assert_eq!(of("numerator: 3\ndenominator: TEN_THOUSAND\n"), whole);
        assert_eq!(of("{numerator: 5}"), Some((5, 100)));
        assert_eq!((of("25"), of(" 2.5 ")), (Some((25, 100)), Some((2, 100))));
        assert_eq!((of("x"), of("{a: 1}"), of("-1")), (None, None, None));
    }

    #[test]
    fn a_flag_is_true_or_false() {
        let of = |text: &str| flag(&text.into());
        assert_eq!((of("  true"), of("FALSE"), of("1")), (Some(true), Some(false), None));
    }
}
