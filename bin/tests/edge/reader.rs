//! A request reader that follows RFC 9112 literally. It shares no code with the codec: it
//! determines what a client sent, and judges what reached an origin.

/// A request on the wire.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case. A byte is a `char`.
    pub(super) fields: Vec<(String, String)>,
    /// The body without chunk framing.
    pub(super) body: Vec<u8>,
    /// Where the message ends in the bytes; `None` if its body is incomplete.
    pub(super) end: Option<usize>,
    /// It is HTTP/1.0.
    pub(super) is_old: bool,
}

/// What follows the last request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// Nothing.
    Clean,
    /// The connection is no longer HTTP/1, or the client asked to close it.
    Over,
    /// A message that may become a request with more bytes.
    Partial,
    /// Bytes that can never become a request, and why.
    Wrong(&'static str),
}

/// What is tolerated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leniency {
    /// Nothing: for what a proxy sends.
    None,
    /// Empty lines before a request, as in RFC 9112 §2.2: for what a client sends.
    EmptyLines,
    /// What Envoy tolerates, and a proxy that rewrites each message may: a bare LF at the end of a
    /// line of a head (RFC 9112 §2.2 allows it), no `Host` if the target names the host, and
    /// HTTP/1.0.
    AsEnvoy,
}

/// All requests of a connection.
pub(super) fn requests(bytes: &[u8], leniency: Leniency) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    let mut at = 0;
    loop {
        loop {
            match (leniency, &bytes[at..]) {
                (Leniency::EmptyLines | Leniency::AsEnvoy, [b'\r', b'\n', ..]) => at += 2,
                (Leniency::AsEnvoy, [b'\n', ..]) => at += 1,
                _ => break,
            }
        }
        if at == bytes.len() {
            return (requests, End::Clean);
        }
        let (mut request, body) = match head(bytes, at, leniency) {
            Ok(head) => head,
            Err(end) => return (requests, end),
        };
        let end = read_body(&mut request, bytes, body);
        let over = request.ends_connection();
        // If only the body is invalid, its head and the valid part of the body may have been
        // forwarded.
        requests.push(request);
        match end {
            Err(end) => return (requests, end),
            Ok(_) if over => return (requests, End::Over),
            Ok(end) => at = end,
        }
    }
}

impl Request {
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.fields.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// The target without scheme and authority: a proxy may send either form.
    pub(super) fn path(&self) -> &str {
        let Some((_, rest)) = self.target.split_once("://") else { return &self.target };
        if self.target.starts_with('/') {
            return &self.target;
        }
        rest.find('/').map_or("/", |at| &rest[at..])
    }

    /// Whether both are the same request; the body may be incomplete.
    pub(super) fn means(&self, sent: &Self) -> bool {
        let body = match (self.end, sent.end) {
            (Some(_), Some(_)) => self.body == sent.body,
            (None, _) => sent.body.starts_with(&self.body),
            (Some(_), None) => false,
        };
        self.method == sent.method && self.path() == sent.path() && body
    }

    fn ends_connection(&self) -> bool {
        let connection = self.values("connection").join(",").to_ascii_lowercase();
        let members: Vec<&str> = connection.split(',').map(str::trim).collect();
        let lasts = !self.is_old || members.contains(&"keep-alive");
        self.method == "CONNECT" || members.contains(&"close") || !lasts
    }
}

/// A head, and where its body starts.
fn head(bytes: &[u8], start: usize, leniency: Leniency) -> Result<(Request, usize), End> {
    let (first, mut at) = line(bytes, start, leniency)?;
    let words: Vec<&[u8]> = first.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(End::Wrong("a request line without three words"));
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(End::Wrong("method or target"));
    }
    let is_old = version == b"HTTP/1.0" && leniency == Leniency::AsEnvoy;
    if version != b"HTTP/1.1" && !is_old {
        return Err(End::Wrong("version"));
    }
    let mut request =
        Request { method: text(method), target: text(target), is_old, ..Request::default() };
    loop {
        let (field, next) = line(bytes, at, leniency)?;
        at = next;
        if field.is_empty() {
            break;
        }
        request.fields.push(self::field(field)?);
    }
    check_host(&request, leniency)?;
    check_length(&request)?;
    Ok((request, at))
}

fn check_host(request: &Request, leniency: Leniency) -> Result<(), End> {
    let absolute = request.target.contains("://") && !request.target.starts_with('/');
    let target_names_it = absolute || request.method == "CONNECT";
    match request.values("host")[..] {
        [host] if !host.is_empty() || target_names_it => Ok(()),
        [] if target_names_it && leniency == Leniency::AsEnvoy || request.is_old => Ok(()),
        _ => Err(End::Wrong("not one host")),
    }
}

fn check_length(request: &Request) -> Result<(), End> {
    match (&request.values("content-length")[..], &request.values("transfer-encoding")[..]) {
        ([], []) => Ok(()),
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let fits = length.parse::<u64>().is_ok();
            if digits && fits { Ok(()) } else { Err(End::Wrong("content-length")) }
        }
        ([], [coding]) if !request.is_old && coding.eq_ignore_ascii_case("chunked") => Ok(()),
        _ => Err(End::Wrong("two lengths, or an unknown coding")),
    }
}

/// Reads the available part of the body; returns where it ends.
fn read_body(request: &mut Request, bytes: &[u8], at: usize) -> Result<usize, End> {
    let end = if !request.values("transfer-encoding").is_empty() {
        chunks(bytes, at, &mut request.body)?
    } else if let [length] = request.values("content-length")[..] {
        let length: u64 = length.parse().unwrap();
        let there = bytes.len() - at;
        let whole = usize::try_from(length).ok().filter(|&length| length <= there);
        request.body = bytes[at..at + whole.unwrap_or(there)].to_vec();
        at + whole.ok_or(End::Partial)?
    } else {
        at
    };
    request.end = Some(end);
    Ok(end)
}

fn chunks(bytes: &[u8], mut at: usize, body: &mut Vec<u8>) -> Result<usize, End> {
    loop {
        let (line, next) = match line(bytes, at, Leniency::None) {
            Err(End::Partial) => return Err(size_so_far(&bytes[at..])),
            line => line?,
        };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(&text(&line[..digits]), 16);
        let size = size.map_err(|_| End::Wrong("chunk size"))?;
        if !is_extension(&line[digits..]) {
            return Err(End::Wrong("chunk extension"));
        }
        at = next;
        if size == 0 {
            break;
        }
        let there = size.min(bytes.len() - at);
        body.extend_from_slice(&bytes[at..at + there]);
        at += there;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Err(End::Partial),
            _ => return Err(End::Wrong("no line end after a chunk")),
        }
    }
    loop {
        let (trailer, next) = line(bytes, at, Leniency::None)?;
        at = next;
        if trailer.is_empty() {
            return Ok(at);
        }
        let (name, _) = field(trailer)?;
        if ["content-length", "transfer-encoding", "host"].contains(&name.as_str()) {
            return Err(End::Wrong("a trailer that affects framing or routing"));
        }
    }
}

fn size_so_far(bytes: &[u8]) -> End {
    match bytes.iter().find(|byte| !byte.is_ascii_hexdigit()) {
        None | Some(b';' | b' ' | b'\t' | b'\r') => End::Partial,
        Some(_) => End::Wrong("chunk size"),
    }
}

/// The line at this position, and where the next one starts.
fn line(bytes: &[u8], start: usize, leniency: Leniency) -> Result<(&[u8], usize), End> {
    let rest = &bytes[start..];
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        let end = rest.strip_suffix(b"\r").unwrap_or(rest);
        return Err(if end.contains(&b'\r') { End::Wrong("bare CR") } else { End::Partial });
    };
    let line = match rest[..end].strip_suffix(b"\r") {
        Some(line) => line,
        None if leniency == Leniency::AsEnvoy => &rest[..end],
        None => return Err(End::Wrong("bare LF")),
    };
    if line.contains(&b'\r') { Err(End::Wrong("bare CR")) } else { Ok((line, start + end + 1)) }
}

fn field(line: &[u8]) -> Result<(String, String), End> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(End::Wrong("no colon"))?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if !is_token(name) {
        return Err(End::Wrong("field name"));
    }
    if !value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) {
        return Err(End::Wrong("field value"));
    }
    Ok((text(name).to_ascii_lowercase(), text(value)))
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = skip_space(rest).strip_prefix(b";") else { return false };
        let Some(after) = skip_token(skip_space(name)) else { return false };
        rest = after;
        let Some(value) = skip_space(rest).strip_prefix(b"=") else { continue };
        let value = skip_space(value);
        let after = match value.strip_prefix(b"\"") {
            Some(quoted) => skip_quoted(quoted),
            None => skip_token(value),
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    true
}

fn skip_space(text: &[u8]) -> &[u8] {
    let len = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[len..]
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let len = text.iter().take_while(|&&byte| is_token(&[byte])).count();
    (len > 0).then(|| &text[len..])
}

fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(&text[at + 1..]),
            b'\\' => at += 1,
            0..=8 | 10..=31 | 127 => return None,
            _ => {}
        }
        at += 1;
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let mut text = skip_space(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_token(text: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
