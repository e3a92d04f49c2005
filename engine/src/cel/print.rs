//! Results of expressions as text and as JSON.

use std::fmt::Display;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelNull, CelString,
    CelTimestamp, CelUInt,
};
use cel::common::value::Val;

use crate::format::json_text as json;
use crate::format::number::six_digits;

/// As in Envoy, which shows no parts of lists and maps.
pub(super) fn text(value: &dyn Val, out: &mut Vec<u8>) {
    if let Some(value) = value.downcast_ref::<CelString<'_>>() {
        out.extend_from_slice(value.inner().as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelBytes<'_>>() {
        out.extend_from_slice(value.inner());
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        show(value.inner(), out);
    } else if let Some(value) = value.downcast_ref::<CelInt>() {
        show(value.inner(), out);
    } else if let Some(value) = value.downcast_ref::<CelUInt>() {
        show(value.inner(), out);
    } else if let Some(value) = value.downcast_ref::<CelDouble>() {
        out.extend_from_slice(six_digits(*value.inner()).as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelDuration>() {
        out.extend_from_slice(duration_text(*value.inner()).as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelTimestamp>() {
        let time = value.inner().to_utc();
        show(&time.format("%Y-%m-%dT%H:%M:%S"), out);
        out.extend_from_slice(fraction(time.timestamp_subsec_nanos(), Digits::Shortest).as_bytes());
        out.extend_from_slice(b"+00:00");
    } else {
        let name = match value.get_type().name() {
            "null_type" => "NULL",
            "list" => "CelList value",
            "map" => "CelMap value",
            _ => "CelType value",
        };
        out.extend_from_slice(name.as_bytes());
    }
}

/// None for a type, which has no form in JSON.
pub(super) fn typed(value: &dyn Val, out: &mut Vec<u8>) -> Option<()> {
    if let Some(value) = value.downcast_ref::<CelString<'_>>() {
        json::write_string(value.inner().as_bytes(), out);
    } else if let Some(value) = value.downcast_ref::<CelBytes<'_>>() {
        json::write_string(BASE64_STANDARD.encode(value.inner()).as_bytes(), out);
    } else if let Some(value) = value.downcast_ref::<CelBool>() {
        show(value.inner(), out);
    } else if let Some(value) = value.downcast_ref::<CelInt>() {
        #[expect(clippy::cast_precision_loss, reason = "numbers of JSON are doubles, as in Envoy")]
        out.extend_from_slice(json::shortest(*value.inner() as f64).as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelUInt>() {
        #[expect(clippy::cast_precision_loss, reason = "numbers of JSON are doubles, as in Envoy")]
        out.extend_from_slice(json::shortest(*value.inner() as f64).as_bytes());
    } else if let Some(value) = value.downcast_ref::<CelDouble>() {
        double(*value.inner(), out);
    } else if value.downcast_ref::<CelNull>().is_some() {
        out.extend_from_slice(b"null");
    } else if let Some(value) = value.downcast_ref::<CelDuration>() {
        let (sign, seconds, nanos) = parts(*value.inner());
        let fraction = fraction(nanos, Digits::Groups);
        show(&format_args!("\"{sign}{seconds}{fraction}s\""), out);
    } else if let Some(value) = value.downcast_ref::<CelTimestamp>() {
        let time = value.inner().to_utc();
        let fraction = fraction(time.timestamp_subsec_nanos(), Digits::Groups);
        show(&format_args!("\"{}{fraction}Z\"", time.format("%Y-%m-%dT%H:%M:%S")), out);
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        out.push(b'[');
        for (index, item) in list.inner().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            typed(&**item, out)?;
        }
        out.push(b']');
    } else {
        members(value.downcast_ref::<CelMap<'_>>()?, out)?;
    }
    Some(())
}

/// In the order of their keys.
fn members(map: &CelMap<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut members = Vec::new();
    for (key, value) in map.inner() {
        let mut name = Vec::new();
        text(key.inner(), &mut name);
        members.push((name, value));
    }
    members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    out.push(b'{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(&name, out);
        out.push(b':');
        typed(&**value, out)?;
    }
    out.push(b'}');
    Some(())
}

fn show(value: &impl Display, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _infallible = write!(out, "{value}");
}

/// JSON has no other numbers; as in protobuf those are texts.
fn double(number: f64, out: &mut Vec<u8>) {
    if number.is_finite() {
        out.extend_from_slice(json::shortest(number).as_bytes());
    } else {
        let name = if number.is_nan() {
            "\"NaN\""
        } else if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        };
        out.extend_from_slice(name.as_bytes());
    }
}

/// Sign, whole seconds and nanoseconds.
fn parts(duration: chrono::Duration) -> (&'static str, u64, u32) {
    let sign = if duration < chrono::Duration::zero() { "-" } else { "" };
    let positive = duration.abs().to_std().unwrap_or_default();
    (sign, positive.as_secs(), positive.subsec_nanos())
}

/// How many digits a fraction of a second has.
#[derive(Clone, Copy)]
enum Digits {
    /// None, three, six or nine, as in the JSON of protobuf.
    Groups,
    /// As few as possible.
    Shortest,
}

/// With its point; empty if it is zero.
fn fraction(nanos: u32, digits: Digits) -> String {
    if nanos == 0 {
        return String::new();
    }
    let all = format!(".{nanos:09}");
    let zeros = all.len() - all.trim_end_matches('0').len();
    let zeros = match digits {
        Digits::Groups => zeros / 3 * 3,
        Digits::Shortest => zeros,
    };
    all.get(..all.len() - zeros).unwrap_or_default().to_owned()
}

/// `25h1m1.5s`; below a second in the largest unit of which it has one.
fn duration_text(duration: chrono::Duration) -> String {
    let (sign, seconds, nanos) = parts(duration);
    match (seconds, nanos) {
        (0, 0) => "0".to_owned(),
        (0, nanos) => {
            let (unit, name) = match nanos {
                1_000_000.. => (1_000_000, "ms"),
                1_000.. => (1_000, "us"),
                _ => (1, "ns"),
            };
            format!("{sign}{}{name}", f64::from(nanos) / f64::from(unit))
        }
        (seconds, nanos) => {
            let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let mut text = sign.to_owned();
            for (count, name) in [(hours, "h"), (minutes, "m")] {
                if count > 0 {
                    text.push_str(&format!("{count}{name}"));
                }
            }
            if rest > 0 || nanos > 0 {
                text.push_str(&format!("{rest}{}s", fraction(nanos, Digits::Shortest)));
            }
            text
        }
    }
}
