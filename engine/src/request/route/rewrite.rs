//! Rewrites of the path and the host.

use std::fmt;

use regex::bytes::Regex;

use super::matchers::HeaderName;
use super::path::PathMatch;
use super::template::TemplateRewrite;
use super::without_query;
use crate::format::{Formatter, Unset};
use crate::http::RequestHead;
use crate::re2;

/// How the path is rewritten. The query is kept.
#[derive(Clone, Debug, Default)]
pub enum PathRewrite {
    /// `prefix_rewrite`: replaces what the route's path specifier matched.
    Prefix(Box<[u8]>),
    /// `regex_rewrite`: replaces every match in the path.
    Regex(RegexRewrite),
    /// `path_rewrite_policy`: a path with the variables of the template that matched.
    Template(TemplateRewrite),
    /// `path_rewrite`: replaces the path.
    Format(Box<Formatter>),
    /// The path is kept.
    #[default]
    None,
}

/// How the host is rewritten.
#[derive(Clone, Debug, Default)]
pub enum HostRewrite {
    /// `auto_host_rewrite`: the hostname of the selected endpoint, for each attempt.
    Auto,
    /// `host_rewrite_header`: a request header; the host is kept if it is absent or empty.
    Header(HeaderName),
    /// `host_rewrite_literal`
    Literal(Box<[u8]>),
    /// `host_rewrite_path_regex`: the path without query, after this substitution.
    PathRegex(RegexRewrite),
    /// `host_rewrite`
    Format(Box<Formatter>),
    /// The host is kept.
    #[default]
    None,
}

/// `RegexMatchAndSubstitute`: replaces every match. `\1` to `\9` are the groups, `\0` is the whole
/// match, `\\` a backslash.
#[derive(Clone)]
pub struct RegexRewrite {
    pattern: Regex,
    substitution: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

/// Evaluates a format for the request, and appends the result.
pub type Evaluate<'a> = &'a dyn Fn(&Formatter, Unset, &mut Vec<u8>);

/// The path that a format gives; may be empty. Values come from requests: what is not allowed in a path is
/// percent-encoded, and it begins with a slash.
pub(super) fn path_of(formatter: &Formatter, format: Evaluate<'_>) -> Vec<u8> {
    let (mut text, mut path) = (Vec::new(), Vec::new());
    format(formatter, Unset::Empty, &mut text);
    if !text.is_empty() && !text.starts_with(b"/") {
        path.push(b'/');
    }
    for byte in text {
        match byte {
            b'!'..=b'~' => path.push(byte),
            _ => path.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    path
}

impl PathRewrite {
    /// Whether the path is rewritten at all.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Writes the rewritten `target` (path and query) to `out`, or nothing if it is kept. `matched`
    /// is the path specifier that the target matched, `format` evaluates a format.
    pub fn rewrite(
        &self,
        matched: &PathMatch,
        target: &[u8],
        format: Evaluate<'_>,
        out: &mut Vec<u8>,
    ) {
        let path = without_query(target);
        let rewritten_len = match self {
            Self::Prefix(replacement) => {
                out.extend_from_slice(replacement);
                matched.matched_len(path)
            }
            Self::Regex(regex) => {
                regex.replace_all(path, out);
                path.len()
            }
            Self::Template(rewrite) => {
                if let PathMatch::Template(template) = matched {
                    rewrite.rewrite(template, path, out);
                }
                path.len()
            }
            Self::Format(formatter) => {
                out.extend_from_slice(&path_of(formatter, format));
                path.len()
            }
            Self::None => return,
        };
        // As in Envoy, the path is kept if the result would be empty.
        if !out.is_empty() {
            out.extend_from_slice(target.get(rewritten_len..).unwrap_or_default());
        }
    }
}

impl HostRewrite {
    /// Writes the new host to `out`, or nothing if it is kept or depends on the endpoint.
    pub fn rewrite(&self, head: &RequestHead, format: Evaluate<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Auto | Self::None => {}
            Self::Header(name) => {
                out.extend_from_slice(name.first_value(head).unwrap_or_default());
            }
            Self::Literal(host) => out.extend_from_slice(host),
            Self::PathRegex(regex) => regex.replace_all(without_query(head.target()), out),
            Self::Format(formatter) => {
                format(formatter, Unset::Dash, out);
                // It would add a word or a line to the head.
                if !out.iter().all(u8::is_ascii_graphic) {
                    out.clear();
                }
            }
        }
    }
}

impl RegexRewrite {
    /// Parses pattern and substitution in RE2's syntax. Calls `warn` for parts of the substitution
    /// that have no effect; Envoy accepts them.
    ///
    /// # Errors
    /// A message, if the pattern is invalid.
    pub fn new(pattern: &str, substitution: &str, warn: impl FnOnce(&str)) -> Result<Self, String> {
        let pattern = re2::compile(pattern)?;
        let (mut pieces, is_whole) = pieces(substitution);
        let lacks =
            |piece: &Piece| matches!(piece, Piece::Group(n) if *n >= pattern.captures_len());
        if pieces.iter().any(lacks) {
            warn("the pattern has no group with this number: nothing is replaced, as in Envoy");
            pieces = vec![Piece::Group(0)];
        } else if !is_whole {
            warn(
                "a backslash without a digit or backslash after it ends the text here, as in Envoy",
            );
        }
        Ok(Self { pattern, substitution: pieces })
    }

    /// Appends `text` with every match replaced.
    pub(crate) fn replace_all(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        for captures in self.pattern.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            out.extend_from_slice(text.get(copied..whole.start()).unwrap_or_default());
            for piece in &self.substitution {
                match piece {
                    Piece::Text(piece) => out.extend_from_slice(piece),
                    Piece::Group(group) => {
                        let group = captures.get(*group).map(|group| group.as_bytes());
                        out.extend_from_slice(group.unwrap_or_default());
                    }
                }
            }
            copied = whole.end();
        }
        out.extend_from_slice(text.get(copied..).unwrap_or_default());
    }
}

impl fmt::Debug for RegexRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegexRewrite")
            .field("pattern", &self.pattern)
            .field("substitution", &self.substitution)
            .finish()
    }
}

/// The pieces of a substitution, and whether all of it was parsed: RE2 stops at a backslash that
/// has no meaning.
fn pieces(substitution: &str) -> (Vec<Piece>, bool) {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut is_whole = true;
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => text.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Group(usize::from(digit - b'0')));
            }
            _ => {
                is_whole = false;
                break;
            }
        }
    }
    pieces.push(Piece::Text(text));
    (pieces, is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_matcher::{FullRegex, Literal};

    fn rewritten(rewrite: &PathRewrite, matched: &PathMatch, target: &str) -> String {
        let mut out = Vec::new();
        rewrite.rewrite(matched, target.as_bytes(), &|_, _, _| {}, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(Literal::new(text, false))
    }

    #[test]
    fn the_matched_prefix_is_swapped_and_the_query_stays() {
        let rewrite = PathRewrite::Prefix(b"/"[..].into());
        assert_eq!(rewritten(&rewrite, &prefix("/f/pr/"), "/f/pr/abc?q=1"), "/abc?q=1");
        assert_eq!(rewritten(&rewrite, &prefix("/f/pr/"), "/f/pr//abc"), "//abc");
        let rewrite = PathRewrite::Prefix(b"/o"[..].into());
        let separated = PathMatch::SeparatedPrefix(Literal::new("/f/psp", false));
        assert_eq!(rewritten(&rewrite, &separated, "/f/psp/x"), "/o/x");
        let folded = PathMatch::Prefix(Literal::new("/F/Ci", true));
        assert_eq!(rewritten(&rewrite, &folded, "/f/CI/x"), "/o/x");
        let exact = PathMatch::Exact(Literal::new("/f/exact", false));
        assert_eq!(rewritten(&rewrite, &exact, "/f/exact?q"), "/o?q");
    }

    #[test]
    fn with_a_regex_match_the_whole_path_is_replaced() {
        let rewrite = PathRewrite::Prefix(b"/whole"[..].into());
        let regex = PathMatch::Regex(FullRegex::new("/f/rx/.*").unwrap());
        assert_eq!(rewritten(&rewrite, &regex, "/f/rx/a?b"), "/whole?b");
    }

    #[test]
    fn every_match_of_a_regex_is_replaced_in_the_path_only() {
        let rewrite = |pattern, substitution| {
            let rewrite = RegexRewrite::new(pattern, substitution, |warning| panic!("{warning}"));
            PathRewrite::Regex(rewrite.unwrap())
        };
        let swap = rewrite("(x)(y*)", r"<\2\1\\>");
        assert_eq!(rewritten(&swap, &prefix("/"), "/f/xyyx?x"), r"/f/<yyx\><x\>?x");
        let nothing = rewrite("b*", "-");
        assert_eq!(rewritten(&nothing, &prefix("/"), "/f/emabbc?b"), "-/-f-/-e-m-a-c-?b");
        let whole = rewrite("/rd/re/(a*)", r"/x/\1-\0");
        assert_eq!(rewritten(&whole, &prefix("/"), "/rd/re/aab"), "/x/aa-/rd/re/aab");
    }

    #[test]
    fn what_a_format_gives_is_a_path_and_one_host() {
        let format = || Box::new(Formatter::new("%REQ(x)%").unwrap());
        for (value, path, host) in [
            ("/a", "/a?q", "/a"),
            ("a", "/a?q", "a"),
            ("", "", ""),
            ("/a b\u{e9}", "/a%20b%C3%A9?q", ""),
            ("a\r\nx: y", "/a%0D%0Ax:%20y?q", ""),
        ] {
            let evaluate =
                |_: &Formatter, _, out: &mut Vec<u8>| out.extend_from_slice(value.as_bytes());
            let (mut target, mut name) = (Vec::new(), Vec::new());
            PathRewrite::Format(format()).rewrite(&prefix("/"), b"/f?q", &evaluate, &mut target);
            HostRewrite::Format(format()).rewrite(&RequestHead::default(), &evaluate, &mut name);
            assert_eq!(String::from_utf8(target).unwrap(), path, "{value:?}");
            assert_eq!(String::from_utf8(name).unwrap(), host, "{value:?}");
        }
    }

    /// As recorded from Envoy 1.40.0.
    #[test]
    fn an_invalid_substitution_has_no_effect_from_there_on() {
        for (pattern, substitution, target) in [
            ("a", r"\1", "/xay"),
            ("(a)", r"\1\2", "/xay"),
            ("a", r"b\", "/xby"),
            ("a", r"b\nc", "/xby"),
            ("a", r"\n", "/xy"),
        ] {
            let mut warned = false;
            let rewrite = RegexRewrite::new(pattern, substitution, |_| warned = true);
            let rewrite = PathRewrite::Regex(rewrite.unwrap());
            assert_eq!(rewritten(&rewrite, &prefix("/"), "/xay"), target, "{substitution}");
            assert!(warned, "{substitution}");
        }
    }
}
