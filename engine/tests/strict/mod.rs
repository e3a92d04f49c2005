//! A second reader of HTTP/1.1 that takes RFC 9112 literally and forgives nothing. It shares no
//! code with the codec, is slow, and knows only what an origin must know.

/// A request as the reader understood it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) length: Length,
}

/// How long its body is.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Length {
    Fixed(u64),
    Chunked,
}

/// Reads exactly one head with nothing behind it.
pub(crate) fn request(bytes: &[u8]) -> Option<Request> {
    let text = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut lines = split(text, b"\r\n").into_iter();
    let [method, target, version] = <[&[u8]; 3]>::try_from(split(lines.next()?, b" ")).ok()?;
    let visible = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    if version != b"HTTP/1.1" || !is_token(method) || !visible(target) {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].strip_prefix(b" ")?);
        if !is_token(name) || name != name.to_ascii_lowercase() || !is_value(value) {
            return None;
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
    let all = |wanted: &[u8]| -> Vec<Vec<u8>> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
    };
    if all(b"host").len() != 1 || all(b"host")[0].is_empty() {
        return None;
    }
    for hop_by_hop in [&b"keep-alive"[..], b"proxy-connection", b"upgrade", b"connection"] {
        if !all(hop_by_hop).is_empty() {
            return None;
        }
    }
    let length = match (&*all(b"content-length"), &*all(b"transfer-encoding")) {
        ([], []) => Length::Fixed(0),
        ([digits], []) if digits.iter().all(u8::is_ascii_digit) => {
            Length::Fixed(std::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        ([], [coding]) if coding == b"chunked" => Length::Chunked,
        _ => return None,
    };
    Some(Request { method: method.to_vec(), target: target.to_vec(), fields, length })
}

/// The data of a chunked body at the start of `bytes`, and how long the body is coded.
pub(crate) fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut rest = bytes;
    loop {
        let (line, behind) = cut(rest, b"\r\n")?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || !is_extension(&line[digits..]) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        rest = behind;
        if size == 0 {
            break;
        }
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, behind) = cut(rest, b"\r\n")?;
        rest = behind;
        if line.is_empty() {
            return Some((data, bytes.len() - rest.len()));
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        if !is_token(&line[..colon]) || !is_value(&line[colon + 1..]) {
            return None;
        }
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
fn is_extension(text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(name) = trim(rest).strip_prefix(b";") else { return false };
        let name = trim(name);
        let len = name.iter().take_while(|&&byte| is_token(&[byte])).count();
        if len == 0 {
            return false;
        }
        rest = &name[len..];
        let Some(value) = trim(rest).strip_prefix(b"=") else { continue };
        let value = trim(value);
        if let Some(quoted) = value.strip_prefix(b"\"") {
            let Some(end) = end_of_quoted(quoted) else { return false };
            rest = &quoted[end..];
        } else {
            let len = value.iter().take_while(|&&byte| is_token(&[byte])).count();
            if len == 0 {
                return false;
            }
            rest = &value[len..];
        }
    }
    true
}

fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if is_value(&[*text.get(at + 1)?]) => at += 2,
            byte if *byte != b'\\' && is_value(&[*byte]) => at += 1,
            _ => return None,
        }
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_value(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'\t' || (b' '..0x7f).contains(&byte) || byte >= 0x80)
}

fn split<'a>(mut text: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some((part, rest)) = cut(text, by) {
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

fn cut<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|window| window == by)?;
    Some((&text[..at], &text[at + by.len()..]))
}
