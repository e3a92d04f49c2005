//! Why a request gets its route: the same search as [`RouteTable::find`], one route after the other.

use super::matchers::{HeaderCondition, HeaderMatcher, QueryCondition};
use super::path::PathMatch;
use super::{Lookup, Request, RouteMatch, RouteTable, Search, VirtualHost};
use crate::http::Method;
use crate::text_matcher::{Literal, TextMatcher};

/// How the route of a request was found.
#[derive(Debug)]
pub struct Trace<'a> {
    /// What was found.
    pub lookup: Lookup<'a>,
    /// Its virtual host, with its index.
    pub virtual_host: Option<(usize, &'a VirtualHost)>,
    /// Whether the virtual host has a matcher tree, which leads to the routes that were tried.
    pub by_tree: bool,
    /// The routes that were tried before the one that was found, and what they failed on.
    pub failed: Vec<(usize, String)>,
    /// The index of the route that was found, and what its path specifier is.
    pub found: Option<(usize, String)>,
    /// The weight of the cluster that was drawn, and the sum of all weights.
    pub chance: Option<(u64, u64)>,
}

impl RouteTable {
    /// Finds the route of a request, and says how.
    #[must_use]
    pub fn trace(&self, request: &Request<'_>) -> Trace<'_> {
        let lookup = self.find(request);
        let virtual_host = request.head.authority().and_then(|host| self.index_of(host));
        let virtual_host =
            virtual_host.and_then(|index| Some((index, self.virtual_hosts.get(index)?)));
        let mut trace = Trace {
            lookup,
            virtual_host,
            by_tree: false,
            failed: Vec::new(),
            found: None,
            chance: None,
        };
        let Some((_, host)) = virtual_host else { return trace };
        if matches!(lookup, Lookup::TlsRequired) {
            return trace;
        }
        let candidates = match &host.search {
            Search::InOrder(_) => 0..host.entries.len(),
            Search::Tree(tree) => {
                trace.by_tree = true;
                tree.find(request).cloned().unwrap_or_default()
            }
        };
        let path = self.path_of(request.head);
        for index in candidates {
            let Some(entry) = host.entries.get(index) else { continue };
            match entry.conditions.failure(request, path) {
                Some(why) => trace.failed.push((index, why)),
                None => {
                    trace.chance = entry.choice.chance(request);
                    trace.found = Some((index, entry.conditions.path.describe()));
                    break;
                }
            }
        }
        trace
    }
}

impl RouteMatch {
    /// The first condition that does not hold.
    fn failure(&self, request: &Request<'_>, path: &[u8]) -> Option<String> {
        let Request { head, tls, random, .. } = *request;
        if head.method == Method::Connect && !matches!(self.path, PathMatch::Connect) {
            return Some("a CONNECT needs a connect_matcher".to_owned());
        }
        if !self.path.matches(path) {
            return Some(format!("the path does not match {}", self.path.describe()));
        }
        if let Some(fraction) =
            self.fraction.as_ref().map(|it| it.get()).filter(|it| !it.includes(random))
        {
            return Some(format!(
                "not among the {} of {} requests that it takes",
                fraction.numerator, fraction.denominator
            ));
        }
        if self.grpc && !head.is_grpc() {
            return Some("not a gRPC request".to_owned());
        }
        if !self.tls.matches(tls) {
            return Some("the client's certificate is not as required".to_owned());
        }
        if let Some(matcher) = self.headers.iter().find(|matcher| !matcher.matches(head)) {
            return Some(format!("the header {}", matcher.describe()));
        }
        let query = head.target().splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default();
        if let Some(matcher) = self.query_parameters.iter().find(|it| !it.matches(query)) {
            let wanted = match &matcher.condition {
                QueryCondition::Present(true) => "is absent".to_owned(),
                QueryCondition::Present(false) => "is present".to_owned(),
                QueryCondition::Text(text) => format!("{} {}", is_not(false), text.describe()),
            };
            return Some(format!("the query parameter `{}` {wanted}", lossy(&matcher.name)));
        }
        if self.noted.as_ref().is_some_and(|noted| !noted.matches(request)) {
            return Some(
                "no filter has noted the metadata or filter state that it needs".to_owned(),
            );
        }
        let matcher = self.cookies.iter().find(|matcher| !matcher.matches(head))?;
        let wanted = matcher.text.describe();
        Some(format!("the cookie `{}` {} {wanted}", lossy(&matcher.name), is_not(matcher.invert)))
    }
}

const fn is_not(inverted: bool) -> &'static str {
    if inverted { "is" } else { "is not" }
}

impl HeaderMatcher {
    /// What does not hold.
    fn describe(&self) -> String {
        let name = self.name.to_string();
        match &self.condition {
            HeaderCondition::Present(present) => {
                let wanted = *present != self.invert;
                format!("`{name}` is {}", if wanted { "absent" } else { "present" })
            }
            HeaderCondition::Range(range) => format!(
                "`{name}` {} a number from {} to below {}",
                is_not(self.invert),
                range.start,
                range.end
            ),
            HeaderCondition::Text(text) => {
                format!("`{name}` is absent, or {} {}", is_not(self.invert), text.describe())
            }
        }
    }
}

impl TextMatcher {
    /// As in "is …".
    fn describe(&self) -> String {
        match self {
            Self::Exact(literal) => literal.describe(),
            Self::Prefix(literal) => format!("a text that begins with {}", literal.describe()),
            Self::Suffix(literal) => format!("a text that ends with {}", literal.describe()),
            Self::Contains(literal) => format!("a text that contains {}", literal.describe()),
            Self::Regex(regex) => format!("a text that matches the regex {regex:?}"),
        }
    }
}

impl PathMatch {
    /// The specifier and its value.
    fn describe(&self) -> String {
        match self {
            Self::Exact(literal) => format!("path {}", literal.describe()),
            Self::Prefix(literal) => format!("prefix {}", literal.describe()),
            Self::SeparatedPrefix(literal) => {
                format!("path_separated_prefix {}", literal.describe())
            }
            Self::Regex(regex) => format!("safe_regex {regex:?}"),
            Self::Template(template) => format!("path_template {template:?}"),
            Self::Connect => "connect_matcher".to_owned(),
        }
    }
}

impl Literal {
    fn describe(&self) -> String {
        let case = if self.ignore_case { ", without case" } else { "" };
        format!("`{}`{case}", lossy(&self.text))
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
