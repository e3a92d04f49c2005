//! Values as the text of JSON.

use serde_json::Value;

/// Writes a value of the configuration.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    let separate = |index: usize, out: &mut Vec<u8>| {
        if index > 0 {
            out.push(b',');
        }
    };
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        // The schema knows doubles only.
        Value::Number(number) => {
            let double = number.as_f64().map(shortest);
            out.extend_from_slice(double.unwrap_or_else(|| number.to_string()).as_bytes());
        }
        Value::String(text) => write_string(text.as_bytes(), out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (key, member)) in members.iter().enumerate() {
                separate(index, out);
                write_string(key.as_bytes(), out);
                out.push(b':');
                write_value(member, out);
            }
            out.push(b'}');
        }
    }
}

/// A number as Envoy writes it into JSON: `1e+05` is shorter than `100000`, and of two forms of
/// the same length the plain one is used.
pub(crate) fn shortest(number: f64) -> String {
    // With all digits of a large number, not with zeros for those that do not matter.
    let plain = if number.fract() == 0.0 { format!("{number:.0}") } else { number.to_string() };
    let scientific = format!("{number:e}");
    let scientific = scientific.split_once('e').and_then(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().ok()?;
        Some(format!("{digits}e{exponent:+03}"))
    });
    scientific.filter(|text| text.len() < plain.len()).unwrap_or(plain)
}

/// Writes a JSON string.
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    escape(out, start);
    out.push(b'"');
}

/// Escapes what was written from `start` on, for a JSON string. If it is not valid UTF-8, each byte is a
/// character, as in Envoy. Most texts need no escape, and are not moved.
pub(crate) fn escape(out: &mut Vec<u8>, start: usize) {
    let needs_escape = |&byte: &u8| !matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    let text = out.get(start..).unwrap_or_default();
    let Some(clean) = text.iter().position(needs_escape) else { return };
    let is_utf_8 = std::str::from_utf8(text).is_ok();
    let rest = out.split_off(start + clean);
    for byte in rest {
        match byte {
            b' ' | b'!' | b'#'..=b'[' | b']'..=b'~' => out.push(byte),
            0x7f.. if is_utf_8 => out.push(byte),
            b'"' if is_utf_8 => out.extend_from_slice(b"\\\""),
            b'\\' if is_utf_8 => out.extend_from_slice(b"\\\\"),
            b'\n' if is_utf_8 => out.extend_from_slice(b"\\n"),
            b'\r' if is_utf_8 => out.extend_from_slice(b"\\r"),
            b'\t' if is_utf_8 => out.extend_from_slice(b"\\t"),
            0x08 if is_utf_8 => out.extend_from_slice(b"\\b"),
            0x0c if is_utf_8 => out.extend_from_slice(b"\\f"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 0xf].map(hex_digit));
            }
        }
    }
}

const fn hex_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}
