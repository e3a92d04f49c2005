//! How field names are written: `header_key_format`.
//!
//! Internally all names are lower case. Other formats are applied to the encoded head, so that they
//! cost nothing where they are not configured.

/// A `header_key_format`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HeaderKeyFormat {
    /// In lower case.
    #[default]
    LowerCase,
    /// With a capital letter at the beginning and after every character that is not a letter or digit.
    ProperCaseWords,
    /// The formatter `preserve_case`: names that this codec receives are sent on as received.
    PreserveCase(PreserveCase),
}

/// The options of `preserve_case`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PreserveCase {
    /// How names that the peer did not send are written.
    pub envoy_headers: EnvoyHeaderCase,
    /// Which reason phrase is sent.
    pub reason_phrase: ReasonPhrase,
}

/// `formatter_type_on_envoy_headers`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EnvoyHeaderCase {
    /// In lower case.
    #[default]
    LowerCase,
    /// As [`HeaderKeyFormat::ProperCaseWords`].
    ProperCase,
}

/// `forward_reason_phrase`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReasonPhrase {
    /// The registered one.
    #[default]
    Registered,
    /// The origin's.
    Forwarded,
}

/// A head as received. Empty unless its codec preserves names.
#[derive(Debug, Default)]
pub struct AsReceived(Vec<u8>);

impl AsReceived {
    /// Copies what was received so far, which may be more than the head.
    pub fn keep(&mut self, received: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(received);
    }

    /// Discards what follows the head.
    pub fn end(&mut self, head_bytes: usize) {
        self.0.truncate(head_bytes);
    }

    /// Resets it for the next message; keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How the first field of this name was written.
    fn spelling_of(&self, name: &[u8]) -> Option<&[u8]> {
        let lines = self.0.split(|&byte| byte == b'\n');
        let mut names = lines.filter_map(|line| line.get(..memchr::memchr(b':', line)?));
        names.find(|spelling| spelling.eq_ignore_ascii_case(name))
    }
}

/// Formats the names of an encoded head. `received` is the head that the codec received; none if the
/// head was made here.
#[inline]
pub fn write(head: &mut [u8], format: HeaderKeyFormat, received: Option<&AsReceived>) {
    if format != HeaderKeyFormat::LowerCase {
        rewrite(head, format, received);
    }
}

fn rewrite(head: &mut [u8], format: HeaderKeyFormat, received: Option<&AsReceived>) {
    let preserved = match (format, received) {
        (HeaderKeyFormat::LowerCase, _) | (HeaderKeyFormat::PreserveCase(_), None) => return,
        (HeaderKeyFormat::ProperCaseWords, _) => None,
        (HeaderKeyFormat::PreserveCase(preserved), Some(received)) => {
            Some((preserved.envoy_headers, received))
        }
    };
    for line in head.split_mut(|&byte| byte == b'\n').skip(1) {
        let end = memchr::memchr(b':', line).unwrap_or_default();
        let name = line.get_mut(..end).unwrap_or_default();
        match preserved {
            None => capitalize(name),
            Some((envoy_headers, received)) => match received.spelling_of(name) {
                Some(spelling) if spelling.len() == name.len() => name.copy_from_slice(spelling),
                _ if envoy_headers == EnvoyHeaderCase::ProperCase => capitalize(name),
                _ => {}
            },
        }
    }
}

fn capitalize(name: &mut [u8]) {
    let mut begins = true;
    for byte in name {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = !byte.is_ascii_alphanumeric();
    }
}

/// Replaces the reason phrase of an encoded response, unless `reason` is empty.
pub fn write_reason(head: &mut Vec<u8>, reason: &[u8]) {
    if let Some(end) = memchr::memchr(b'\r', head)
        && STATUS_LINE_BYTES <= end
        && !reason.is_empty()
    {
        head.splice(STATUS_LINE_BYTES..end, reason.iter().copied());
    }
}

/// `HTTP/1.1 200 `
const STATUS_LINE_BYTES: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET /x-b: HTTP/1.1\r\nx-a: 1:2\r\nx_b!c-1x: x-a: 3\r\n\r\n";

    fn written(format: HeaderKeyFormat, received: Option<&str>) -> String {
        let mut head = HEAD.as_bytes().to_vec();
        let mut kept = AsReceived::default();
        kept.keep(received.unwrap_or_default().as_bytes());
        write(&mut head, format, received.map(|_| &kept));
        String::from_utf8(head).expect("text")
    }

    #[test]
    fn words_begin_with_a_capital() {
        let proper = HEAD.replace("x-a: 1", "X-A: 1").replace("x_b!c-1x", "X_B!C-1x");
        assert_eq!(written(HeaderKeyFormat::ProperCaseWords, None), proper);
    }

    #[test]
    fn a_received_name_is_spelled_as_in_its_first_field() {
        let received = "GET / HTTP/1.1\r\nx-A: 1\r\nX-a: 2\r\n\r\n";
        let of = |envoy_headers| {
            HeaderKeyFormat::PreserveCase(PreserveCase { envoy_headers, ..PreserveCase::default() })
        };
        let kept = HEAD.replace("x-a: 1", "x-A: 1");
        assert_eq!(written(of(EnvoyHeaderCase::LowerCase), Some(received)), kept);
        let proper = kept.replace("x_b!c-1x", "X_B!C-1x");
        assert_eq!(written(of(EnvoyHeaderCase::ProperCase), Some(received)), proper);
        assert_eq!(written(of(EnvoyHeaderCase::ProperCase), None), HEAD, "nothing was received");
    }

    #[test]
    fn the_reason_phrase_is_replaced() {
        let mut head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        write_reason(&mut head, b"Fine");
        assert_eq!(head, b"HTTP/1.1 200 Fine\r\n\r\n");
    }
}
