//! Bytes as readable, editable text, and back.
//!
//! A line ends in CR LF. A `\` at the end of a line removes that. `\n` is a lone LF, `\xHH` a byte,
//! `\\` a backslash, `\*300{a}` three hundred times `a`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

/// The bytes of a text.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => out.extend_from_slice(b"\r\n"),
            '\\' => rest = escape(rest, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(out)
}

/// The text for these bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        let run = rest.iter().take_while(|&&next| next == byte).count();
        if run > 64 {
            let _ = write!(out, "\\*{run}{{{}}}", char::from(byte));
            rest = &rest[run..];
            continue;
        }
        if rest.starts_with(b"\r\n") {
            out.push('\n');
            rest = &rest[2..];
            continue;
        }
        match byte {
            b'\n' => out.push_str("\\n\\\n"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        rest = &rest[1..];
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str("\\\n");
    }
    out
}

/// The same on one line.
pub(super) fn encode_line(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        let run = rest.iter().take_while(|&&next| next == byte).count();
        let what = match byte {
            b'\\' => "\\\\".to_owned(),
            b' ' if rest.len() == 1 => "\\x20".to_owned(),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        if run > 64 {
            let _ = write!(out, "\\*{run}{{{what}}}");
            rest = &rest[run..];
        } else {
            out += &what;
            rest = &rest[1..];
        }
    }
    out
}

/// Patterns of what differs from run to run, and their placeholders.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let masks = [
        (r"(?mi)^( *date): \w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT$", "$1: <date>"),
        (
            r"(?mi)^( *x-request-id): [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$",
            "$1: <uuid>",
        ),
        (r"(?mi)^( *x-envoy-upstream-service-time): \d{1,4}$", "$1: <ms>"),
        (r"(?mi)^( *(?:retry-after|x-ratelimit-reset)): [1-9]\d+$", "$1: <seconds>"),
        (r"(?m)^( *x-forwarded-port): \d{4,5}$", "$1: <port>"),
        // Of a retry, in a frame: what is left depends on timing.
        (r"(?m)^(  x-envoy-expected-rq-timeout-ms): 1[0-4]\d{3}$", "$1: <left>"),
        // Of an access log.
        (r"(?m)\b(took|request|response|sent)=\d+\b", "$1=<ms>"),
        (r"127\.0\.0\.1:\d{4,5}\b", "127.0.0.1:<port>"),
        (r#""port_value": \d{4,5}\b"#, r#""port_value": <port>"#),
    ];
    masks.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
});

/// The text with what differs from run to run replaced by placeholders.
pub(super) fn mask(text: &str) -> String {
    MASKS.iter().fold(text.to_owned(), |text, (pattern, name)| {
        pattern.replace_all(&text, *name).into_owned()
    })
}

/// Decodes an escape after its `\` and returns the rest.
fn escape<'a>(rest: &'a str, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let unknown = || format!("no escape: \\{}", rest.lines().next().unwrap_or_default());
    let after = rest.get(1..).ok_or_else(unknown)?;
    match rest.chars().next() {
        Some('\n') => Ok(after),
        Some('n') => {
            out.push(b'\n');
            Ok(after)
        }
        Some('\\') => {
            out.push(b'\\');
            Ok(after)
        }
        Some('x') => {
            let digits = after.get(..2).ok_or_else(unknown)?;
            out.push(u8::from_str_radix(digits, 16).map_err(|_| unknown())?);
            Ok(&after[2..])
        }
        Some('*') => {
            let (count, rest) = after.split_once('{').ok_or_else(unknown)?;
            let (what, rest) = rest.split_once('}').ok_or_else(unknown)?;
            let count = count.parse().map_err(|_| unknown())?;
            let what = decode(what)?;
            out.extend(std::iter::repeat_n(what, count).flatten());
            Ok(rest)
        }
        _ => Err(unknown()),
    }
}

#[test]
fn text_and_bytes_are_the_same() {
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody".to_vec(),
        b"a\nb\\\x00\xff".to_vec(),
        vec![b'a'; 70_000],
        Vec::new(),
    ] {
        assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
    }
    assert_eq!(decode("x: \\*3{ab}\n").unwrap(), b"x: ababab\r\n");
    assert!(decode("\\q").is_err());
}
