//! JSON as httpbin prints it: sorted keys, two spaces, everything beyond ASCII escaped.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The indented form that ends in a newline, with sorted keys.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_pretty(&mut out, value, 0);
    out.push('\n');
    out
}

/// An object on one line, with `", "` and `": "` as separators and members in the given order.
pub(super) fn one_line<'a>(members: impl IntoIterator<Item = (&'a str, OneLine<'a>)>) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_string(&mut out, name);
        out.push_str(": ");
        match value {
            OneLine::Value(value) => write_one_line(&mut out, value),
            OneLine::Strings(pairs) => write_pairs(&mut out, pairs),
            OneLine::Number(number) => {
                let _ = write!(out, "{number}");
            }
        }
    }
    out.push('}');
    out
}

/// A member's value in [`one_line`].
pub(super) enum OneLine<'a> {
    Value(&'a Value),
    Strings(&'a [(String, String)]),
    Number(u64),
}

fn write_pairs(out: &mut String, pairs: &[(String, String)]) {
    out.push('{');
    for (i, (name, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_string(out, name);
        out.push_str(": ");
        write_string(out, value);
    }
    out.push('}');
}

fn write_one_line(out: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_one_line(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, member)) in sorted(members).into_iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_string(out, name);
                out.push_str(": ");
                write_one_line(out, member);
            }
            out.push('}');
        }
        Value::String(text) => write_string(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_pretty(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                start_line(out, i, depth + 1);
                write_pretty(out, item, depth + 1);
            }
            start_line(out, 0, depth);
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            write_pretty_object(out, members, depth);
        }
        other => write_one_line(out, other),
    }
}

fn write_pretty_object(out: &mut String, members: &Map<String, Value>, depth: usize) {
    out.push('{');
    for (i, (name, member)) in sorted(members).into_iter().enumerate() {
        start_line(out, i, depth + 1);
        write_string(out, name);
        out.push_str(": ");
        write_pretty(out, member, depth + 1);
    }
    start_line(out, 0, depth);
    out.push('}');
}

/// Sorted by name, whatever order the map keeps.
fn sorted(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

fn start_line(out: &mut String, index: usize, depth: usize) {
    if index > 0 {
        out.push(',');
    }
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Python's `ensure_ascii`: anything but printable ASCII becomes `\uXXXX`, in UTF-16 units.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='\u{7f}' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_sorted_indented_and_ends_in_a_newline() {
        let value = json!({"b": [1, {"x": null}], "a": {}, "c": []});
        let expected = "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"x\": null\n    }\n  ],\n  \"c\": []\n}\n";
        assert_eq!(pretty(&value), expected);
    }

    #[test]
    fn non_ascii_characters_are_escaped_in_utf16() {
        assert_eq!(
            pretty(&json!("é\u{1f600}\u{1}\"\u{7f}")),
            "\"\\u00e9\\ud83d\\ude00\\u0001\\\"\u{7f}\"\n"
        );
    }

    #[test]
    fn one_line_keeps_the_order_given() {
        let pairs = [("Host".to_owned(), "h".to_owned()), ("Accept".to_owned(), "*/*".to_owned())];
        let args = json!({"x": ["1", "2"]});
        let line = one_line([
            ("url", OneLine::Value(&args)),
            ("headers", OneLine::Strings(&pairs)),
            ("id", OneLine::Number(3)),
        ]);
        let expected = "{\"url\": {\"x\": [\"1\", \"2\"]}, \"headers\": {\"Host\": \"h\", \"Accept\": \"*/*\"}, \"id\": 3}";
        assert_eq!(line, expected);
    }
}
