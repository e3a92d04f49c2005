//! Query strings and form bodies, parsed as httpbin parses them.

use serde_json::{Map, Value};

/// Name and value pairs of a query string or an `application/x-www-form-urlencoded` body.
pub(super) fn urlencoded(text: &[u8]) -> Vec<(String, String)> {
    text.split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = split_once(pair, b'=').unwrap_or((pair, b""));
            (decode(name), decode(value))
        })
        .collect()
}

/// A `multipart/form-data` body: names and values.
#[derive(Debug, Default)]
pub(super) struct Multipart {
    pub(super) fields: Vec<(String, String)>,
    pub(super) files: Vec<(String, String)>,
}

/// Parses a `multipart/form-data` body.
pub(super) fn multipart(body: &[u8], boundary: &str) -> Multipart {
    let mut found = Multipart::default();
    let delimiter = format!("--{boundary}");
    let mut rest = body;
    while let Some(start) = find(rest, delimiter.as_bytes()) {
        let after = rest.get(start + delimiter.len()..).unwrap_or_default();
        if after.starts_with(b"--") {
            break;
        }
        let end = find(after, delimiter.as_bytes()).unwrap_or(after.len());
        let part = after.get(..end).unwrap_or_default();
        rest = after.get(end..).unwrap_or_default();
        let part = part.strip_prefix(b"\r\n").unwrap_or(part);
        let part = part.strip_suffix(b"\r\n").unwrap_or(part);
        let Some(head_end) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(part.get(..head_end).unwrap_or_default());
        let content = part.get(head_end + 4..).unwrap_or_default();
        let Some(name) = parameter(&head, "name") else { continue };
        if parameter(&head, "filename").is_some() {
            found.files.push((name, super::echo::json_safe(content)));
        } else {
            found.fields.push((name, String::from_utf8_lossy(content).into_owned()));
        }
    }
    found
}

/// A value given once is a string, a value given more often is a list, in order.
pub(super) fn semiflatten(pairs: Vec<(String, String)>) -> Value {
    let mut members = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        match members.get_mut(&name) {
            None => {
                members.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(members)
}

/// The value of a `name="value"` or `name=value` parameter in a header.
pub(super) fn parameter(header: &str, name: &str) -> Option<String> {
    header.split([';', '\r', '\n']).find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
    })
}

/// Decodes `%XX` and `+`; bytes that are not UTF-8 afterwards are replaced.
fn decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = tail;
            }
            _ => out.push(first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The URL for display: percent-encoded UTF-8 beyond ASCII is decoded, the rest is unchanged.
pub(super) fn iri(url: &str) -> String {
    let mut out = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let Some((decoded, tail)) = beyond_ascii(rest) {
            out.extend_from_slice(decoded.as_bytes());
            rest = tail;
        } else {
            out.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A run of `%XX` at the start of `text` whose bytes are >= 0x80 and valid UTF-8.
fn beyond_ascii(text: &[u8]) -> Option<(String, &[u8])> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [b'%', high, low, tail @ ..] = rest {
        let byte = hex(*high)? << 4 | hex(*low)?;
        if byte < 0x80 {
            break;
        }
        bytes.push(byte);
        rest = tail;
    }
    let decoded = String::from_utf8(bytes).ok()?;
    (!decoded.is_empty()).then_some((decoded, rest))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&b| b == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_query_with_repeats_blanks_and_escapes() {
        let args = semiflatten(urlencoded(b"a=1&b=2&a=3&c&d=%20x+y&e=%C3%A9&bad=%zz"));
        let expected =
            json!({"a": ["1", "3"], "b": "2", "c": "", "d": " x y", "e": "é", "bad": "%zz"});
        assert_eq!(args, expected);
    }

    #[test]
    fn a_multipart_body_has_fields_and_files() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
            --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\
            Content-Type: text/plain\r\n\r\nline\n\r\n--B--\r\n";
        let Multipart { fields, files } = multipart(body, "B");
        assert_eq!(fields, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(files, [("f".to_owned(), "line\n".to_owned())]);
    }

    #[test]
    fn a_url_shows_non_ascii_characters_and_keeps_the_other_escapes() {
        assert_eq!(iri("http://h/%C3%A9?d=%20x+y&bad=%ff"), "http://h/é?d=%20x+y&bad=%ff");
    }
}
