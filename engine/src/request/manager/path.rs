//! Normalisation of the path of a request target, as in Envoy 1.40; the query is not changed.

use super::{EscapedSlashes, PathRules};

/// The outcome of a normalisation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Normalized {
    /// The target is unchanged.
    Unchanged,
    /// The request continues with this target.
    Changed(Vec<u8>),
    /// The client is redirected to this target.
    Redirect(Vec<u8>),
    /// The request is rejected.
    Refused,
}

/// Applies the rules to a target that begins with a slash.
#[inline]
pub(crate) fn normalize(target: &[u8], rules: &PathRules) -> Normalized {
    // Clients do not send fragments; one that does hopes that proxy and origin treat it differently.
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if !query.is_empty() && memchr::memchr(b'#', query).is_some() {
        return Normalized::Refused;
    }
    let unescape =
        rules.escaped_slashes != EscapedSlashes::KeepUnchanged && has_escaped_slash(path);
    let canonicalize = rules.normalize && !is_canonical(path);
    let merge = rules.merge_slashes && memchr::memmem::find(path, b"//").is_some();
    if unescape || canonicalize || merge {
        changed(target, end, unescape, rules)
    } else {
        Normalized::Unchanged
    }
}

/// Applies the rules to the path, which ends at `end`, when at least one of them applies.
#[cold]
fn changed(target: &[u8], end: usize, unescape: bool, rules: &PathRules) -> Normalized {
    let (path, query) = target.split_at(end);
    if unescape && rules.escaped_slashes == EscapedSlashes::Reject {
        return Normalized::Refused;
    }
    let mut path = path.to_vec();
    if unescape {
        path = unescape_slashes(&path);
    }
    if rules.normalize {
        match canonical(&path) {
            Some(canonical) => path = canonical,
            None => return Normalized::Refused,
        }
    }
    if rules.merge_slashes {
        path = merge_slashes(&path);
    }
    path.extend_from_slice(query);
    if unescape && rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect {
        return Normalized::Redirect(path);
    }
    if path == target { Normalized::Unchanged } else { Normalized::Changed(path) }
}

/// A quick check whether a path is canonical already.
fn is_canonical(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"/.").is_none()
        && !path.iter().any(|&byte| byte == b'%' || byte == b'\\' || is_escaped_by_us(byte))
}

/// Escapes of unreserved characters are decoded, characters that are invalid in a path are escaped,
/// backslashes become slashes, and dot segments are resolved. `None` for an escaped NUL.
///
/// Parameters do not hide a dot segment: many origins treat `..;x` as `..`. Envoy detects that only
/// if the dots are not escaped; here `%2e%2e;x` is `..` too.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode_unreserved(path)?;
    let mut out = Vec::with_capacity(decoded.len());
    out.push(b'/');
    let mut segments =
        decoded.strip_prefix(b"/").unwrap_or(&decoded).split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        match name {
            b"." => {}
            b".." => {
                out.pop();
                let parent = memchr::memrchr(b'/', &out).map_or(0, |slash| slash + 1);
                out.truncate(parent);
                if out.is_empty() {
                    out.push(b'/');
                }
            }
            _ => {
                out.extend_from_slice(segment);
                if segments.peek().is_some() {
                    out.push(b'/');
                }
            }
        }
    }
    Some(out)
}

fn decode_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, behind @ ..]) => match escaped(*high, *low) {
                Some(0) => return None,
                Some(plain) if is_unreserved(plain) => {
                    out.push(plain);
                    rest = behind;
                }
                _ => out.push(b'%'),
            },
            (b'\\', _) => out.push(b'/'),
            (&byte, _) if is_escaped_by_us(byte) => {
                out.push(b'%');
                out.extend(b"0123456789ABCDEF".get(usize::from(byte >> 4)));
                out.extend(b"0123456789ABCDEF".get(usize::from(byte & 0xf)));
            }
            (&byte, _) => out.push(byte),
        }
    }
    Some(out)
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3)
        .any(|text| matches!(text, [b'%', high, low] if escaped_slash(*high, *low).is_some()))
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(*byte);
        if let (b'%', [high, low, behind @ ..]) = (byte, tail)
            && let Some(slash) = escaped_slash(*high, *low)
        {
            out.pop();
            out.push(slash);
            rest = behind;
        }
    }
    out
}

/// Consecutive slashes become one; of a path of slashes only, Envoy keeps two.
fn merge_slashes(path: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(path, b"//").is_none() {
        return path.to_vec();
    }
    let mut out = path.to_vec();
    out.dedup_by(|byte, before| (*byte, *before) == (b'/', b'/'));
    if out == b"/" {
        out.push(b'/');
    }
    out
}

fn escaped_slash(high: u8, low: u8) -> Option<u8> {
    escaped(high, low).filter(|plain| matches!(plain, b'/' | b'\\'))
}

fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_escaped_by_us(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Target, what Envoy 1.40 made of it.
    const CANONICAL: &[(&str, &str)] = &[
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/../../a", "/a"),
        ("/%2e%2e/a", "/a"),
        ("/a/%2E/b", "/a/b"),
        ("/a/.%2e/b", "/b"),
        ("//x//y", "//x//y"),
        ("/a//../b", "/a/b"),
        ("/%41%7e%2d", "/A~-"),
        ("/%2f%5c%2F", "/%2f%5c%2F"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/%5c..", "/%5c.."),
        ("/%zz", "/%zz"),
        ("/%4", "/%4"),
        ("/%", "/%"),
        ("/%80%ff", "/%80%ff"),
        ("/a%20b", "/a%20b"),
        ("/a\"b<c>d^e`f{g|h}i", "/a%22b%3Cc%3Ed%5Ee%60f%7Bg%7Ch%7Di"),
        ("/a;b=c/../d", "/d"),
        ("/?a/../b", "/?a/../b"),
        ("/x?%41%2e", "/x?%41%2e"),
        ("/...", "/..."),
        ("/..a", "/..a"),
        ("/%25%32%65", "/%252e"),
        ("/a[b]c", "/a[b]c"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/%7f", "/%7f"),
        ("/..", "/"),
        ("/%2e", "/"),
        ("/a/%2e%2e?x", "/?x"),
        ("/a/..%2fb", "/a/..%2fb"),
        ("/a/.;/b", "/a/b"),
        ("/a/..;x=y/b", "/b"),
        ("/a/b;x/../c", "/a/c"),
        ("/a/..;", "/"),
        ("/a/.;", "/a/"),
        ("/a/..%3bx/b", "/a/..%3bx/b"),
        ("/a/...;/b", "/a/...;/b"),
        ("/..;/..;/x", "/x"),
        ("/;/a", "/;/a"),
        ("/a/..;?q", "/?q"),
    ];

    #[test]
    fn a_path_is_normalized_as_in_envoy() {
        let rules = PathRules { normalize: true, ..PathRules::default() };
        for (target, wanted) in CANONICAL {
            assert_eq!(outcome(target, &rules), ("on", (*wanted).to_owned()), "{target}");
        }
    }

    #[test]
    fn a_normalized_path_does_not_change() {
        let rules = PathRules { normalize: true, ..PathRules::default() };
        for (_, canonical) in CANONICAL.iter().filter(|(_, wanted)| !wanted.contains("%25")) {
            let again = normalize(canonical.as_bytes(), &rules);
            assert_eq!(again, Normalized::Unchanged, "{canonical}");
        }
    }

    #[test]
    fn escaped_dots_with_parameters_do_not_get_through() {
        let rules = PathRules { normalize: true, ..PathRules::default() };
        assert_eq!(outcome("/a/%2e%2e;/b", &rules).1, "/b");
    }

    #[test]
    fn nothing_is_changed_without_a_rule() {
        for target in ["/a/../b", "//x", "/a%2fb", "/a\\b", "/%00"] {
            assert_eq!(outcome(target, &PathRules::default()).0, "on");
            assert_eq!(normalize(target.as_bytes(), &PathRules::default()), Normalized::Unchanged);
        }
    }

    #[test]
    fn a_fragment_and_an_escaped_nul_are_rejected() {
        let rules = PathRules { normalize: true, ..PathRules::default() };
        assert_eq!(normalize(b"/%00", &rules), Normalized::Refused);
        assert_eq!(normalize(b"/a#b", &PathRules::default()), Normalized::Refused);
        assert_eq!(normalize(b"/?a#b", &PathRules::default()), Normalized::Refused);
    }

    #[test]
    fn slashes_are_merged_in_the_path_only() {
        let rules = PathRules { merge_slashes: true, ..PathRules::default() };
        for (target, wanted) in [
            ("//x//y?a//b", "/x/y?a//b"),
            ("/a///", "/a/"),
            ("////", "//"),
            ("/a/%2f/b", "/a/%2f/b"),
        ] {
            assert_eq!(outcome(target, &rules).1, wanted);
        }
    }

    #[test]
    fn an_escaped_slash_is_kept_rejected_unescaped_or_redirected() {
        let act = |escaped_slashes| PathRules { escaped_slashes, ..PathRules::default() };
        let all = PathRules {
            normalize: true,
            merge_slashes: true,
            escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
        };
        for (target, forwarded, normalized) in [
            ("/a%2fb", "/a/b", "/a/b"),
            ("/a%5Cb?%2f", "/a\\b?%2f", "/a/b?%2f"),
            ("/%2F..%2f", "//../", "/"),
            ("/a%2Fb%5c%25", "/a/b\\%25", "/a/b/%25"),
            ("/%2f%2f", "///", "//"),
        ] {
            assert_eq!(outcome(target, &act(EscapedSlashes::KeepUnchanged)).1, target);
            assert_eq!(outcome(target, &act(EscapedSlashes::Reject)).0, "refused");
            let forward = outcome(target, &act(EscapedSlashes::UnescapeAndForward));
            assert_eq!(forward, ("on", forwarded.to_owned()));
            let redirect = outcome(target, &act(EscapedSlashes::UnescapeAndRedirect));
            assert_eq!(redirect, ("redirect", forwarded.to_owned()));
            assert_eq!(outcome(target, &all), ("redirect", normalized.to_owned()));
        }
        assert_eq!(outcome("/a?%2f", &act(EscapedSlashes::Reject)).0, "on");
    }

    fn outcome(target: &str, rules: &PathRules) -> (&'static str, String) {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        match normalize(target.as_bytes(), rules) {
            Normalized::Unchanged => ("on", target.to_owned()),
            Normalized::Changed(path) => ("on", text(path)),
            Normalized::Redirect(path) => ("redirect", text(path)),
            Normalized::Refused => ("refused", String::new()),
        }
    }
}
