//! `hash_policy`: the hash of a request, by which a load balancer chooses its host, so that like requests
//! go to the same host.

pub(crate) mod compile;

use std::time::Duration;

use super::matchers::{HeaderName, cookie_value};
use super::rewrite::RegexRewrite;
use super::without_query;
use crate::address::{Address, Ends};
use crate::filter_state::FilterState;
use crate::hash::{xxh64, xxh64_seeded};
use crate::http::RequestHead;

/// The policies of a route, in declared order.
#[derive(Clone, Debug, Default)]
pub struct HashPolicies(Box<[HashPolicy]>);

/// What one policy hashes.
#[derive(Clone, Debug)]
struct HashPolicy {
    of: HashOf,
    /// If there is a hash after this policy, the following ones do not count.
    terminal: bool,
}

#[derive(Clone, Debug)]
enum HashOf {
    /// The values of a header, each after a substitution, in the order of their bytes.
    Header { name: HeaderName, rewrite: Option<RegexRewrite> },
    /// A cookie; one without value is set if its lifetime is known.
    Cookie { name: Box<str>, set: Option<SetCookie> },
    /// The IP address of the client.
    SourceIp,
    /// The value of a query parameter as received.
    QueryParameter(Box<[u8]>),
    /// An object that a filter has set.
    FilterState(Box<str>),
}

/// How a cookie is set.
#[derive(Clone, Debug)]
struct SetCookie {
    /// In whole seconds; zero: for the session.
    ttl: Duration,
    /// What follows: path and attributes.
    attributes: Box<str>,
}

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// The head of the request.
    pub head: &'a RequestHead,
    /// The address of the client, also as given by trusted headers.
    pub client: Address,
    /// The ends of the connection.
    pub ends: Ends,
    /// What filters have set.
    pub state: Option<&'a FilterState>,
}

impl HashPolicies {
    /// Whether there are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash of a request; `None` if no policy applies. A cookie that the client is to get is given to
    /// `set_cookie`, as the value of a `set-cookie`; if that is `None`, cookies without value do not
    /// count.
    #[must_use]
    pub fn hash(
        &self,
        request: &Hashed<'_>,
        mut set_cookie: Option<&mut dyn FnMut(String)>,
    ) -> Option<u64> {
        let mut hash = None;
        for policy in &self.0 {
            if let Some(next) = policy.of.hash(request, &mut set_cookie) {
                // As in Envoy: rotated, so that two equal hashes do not cancel each other out.
                hash = Some(hash.map_or(0, |hash: u64| hash.rotate_left(1)) ^ next);
            }
            if policy.terminal && hash.is_some() {
                break;
            }
        }
        hash
    }
}

impl HashOf {
    fn hash(
        &self,
        request: &Hashed<'_>,
        set_cookie: &mut Option<&mut dyn FnMut(String)>,
    ) -> Option<u64> {
        match self {
            Self::Header { name, rewrite } => {
                let mut values = Vec::new();
                name.any_value(request.head, |value| {
                    let mut rewritten = Vec::new();
                    match rewrite {
                        Some(rewrite) => rewrite.replace_all(value, &mut rewritten),
                        None => rewritten.extend_from_slice(value),
                    }
                    values.push(rewritten);
                    false
                })?;
                values.sort_unstable();
                Some(values.iter().fold(0, |seed, value| xxh64_seeded(value, seed)))
            }
            Self::Cookie { name, set } => {
                let value = cookie_value(&request.head.fields, name.as_bytes());
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    return Some(xxh64(value));
                }
                let (set, set_cookie) = set.as_ref().zip(set_cookie.as_mut())?;
                // As in Envoy: the same for all requests of a connection.
                let Ends { remote, local } = request.ends;
                let value = format!("{:016x}", xxh64(format!("{remote}{local}").as_bytes()));
                set_cookie(set.header(name, &value));
                Some(xxh64(value.as_bytes()))
            }
            Self::SourceIp => Some(xxh64(request.client.ip()?.to_string().as_bytes())),
            Self::FilterState(key) => Some(xxh64(request.state?.hashable(key)?.as_bytes())),
            Self::QueryParameter(name) => {
                let target = request.head.target();
                let query = target.get(without_query(target).len() + 1..)?;
                let query = query.split(|&byte| byte == b'#').next()?;
                query.split(|&byte| byte == b'&').find_map(|parameter| {
                    let at = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
                    let value = parameter.get(at + 1..).unwrap_or_default();
                    (parameter.get(..at) == Some(&**name)).then(|| xxh64(value))
                })
            }
        }
    }
}

impl SetCookie {
    fn header(&self, name: &str, value: &str) -> String {
        let mut text = format!("{name}=\"{value}\"");
        if self.ttl.as_secs() > 0 {
            text.push_str(&format!("; Max-Age={}", self.ttl.as_secs()));
        }
        text.push_str(&self.attributes);
        text.push_str("; HttpOnly");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::request::route::tests::request;

    fn header(name: &str) -> HashPolicy {
        HashPolicy {
            of: HashOf::Header { name: HeaderName::new(name), rewrite: None },
            terminal: false,
        }
    }

    fn hash(policies: &[HashPolicy], head: &RequestHead) -> (Option<u64>, Vec<String>) {
        let address = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap());
        let ends = Ends { remote: address("127.0.0.1:5"), local: address("127.0.0.1:6") };
        let hashed = Hashed { head, client: address("10.0.0.1:7"), ends, state: None };
        let mut cookies = Vec::new();
        let mut add = |cookie| cookies.push(cookie);
        let hash = HashPolicies(policies.into()).hash(&hashed, Some(&mut add));
        (hash, cookies)
    }

    #[test]
    fn the_order_of_the_lines_of_a_header_does_not_matter() {
        let policies = [header("x")];
        let (a, _) = hash(&policies, &request("/", &["x: 1", "x: 2"]));
        let (b, _) = hash(&policies, &request("/", &["x: 2", "x: 1"]));
        let (c, _) = hash(&policies, &request("/", &["x: 1"]));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(c, Some(xxh64(b"1")));
        assert_eq!(hash(&policies, &request("/", &[])).0, None);
    }

    #[test]
    fn what_a_filter_has_set_counts_if_it_is_hashable() {
        use crate::filter_state::{Kind, Object};
        let mut state = FilterState::default();
        for (key, kind) in [("text", Kind::Text), ("hashable", Kind::HashableText)] {
            state.set(&Object { key: key.into(), kind }, "1");
        }
        let (head, address) = (request("/", &[]), "127.0.0.1:5".parse::<SocketAddr>().unwrap());
        let client = Address::from(address);
        let ends = Ends { remote: client, local: client };
        let hashed = Hashed { head: &head, client, ends, state: Some(&state) };
        let hash = |key: &str| {
            let of = HashOf::FilterState(key.into());
            HashPolicies([HashPolicy { of, terminal: false }].into()).hash(&hashed, None)
        };
        assert_eq!(hash("hashable"), Some(xxh64(b"1")));
        assert_eq!((hash("text"), hash("absent")), (None, None));
    }

    #[test]
    fn equal_hashes_do_not_cancel_each_other_out() {
        let head = request("/", &["x: 1"]);
        let one = xxh64(b"1");
        assert_eq!(hash(&[header("x"), header("x")], &head).0, Some(one.rotate_left(1) ^ one));
    }

    #[test]
    fn what_follows_a_terminal_policy_counts_only_without_a_hash() {
        let first = HashPolicy { terminal: true, ..header("x") };
        let policies = [first, header("y")];
        let of = |fields: &[&str]| hash(&policies, &request("/", fields)).0;
        assert_eq!(of(&["x: 1", "y: 2"]), of(&["x: 1"]));
        assert_eq!(of(&["y: 2"]), Some(xxh64(b"2")));
    }

    #[test]
    fn a_cookie_is_set_once_for_the_connection() {
        let set = SetCookie { ttl: Duration::from_secs(60), attributes: "; Path=/".into() };
        let of = HashOf::Cookie { name: "sess".into(), set: Some(set) };
        let policies = [HashPolicy { of, terminal: false }];
        let (hash_of_new, cookies) = hash(&policies, &request("/", &[]));
        let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
        let value = cookie.split('"').nth(1).unwrap();
        assert_eq!(*cookie, format!("sess=\"{value}\"; Max-Age=60; Path=/; HttpOnly"));
        assert_eq!(value.len(), 16);
        let (again, cookies) = hash(&policies, &request("/", &[&format!("cookie: sess={value}")]));
        assert_eq!((again, cookies.len()), (hash_of_new, 0));
    }

    #[test]
    fn a_query_parameter_counts_as_received() {
        let of = HashOf::QueryParameter((*b"k").into());
        let policies = [HashPolicy { of, terminal: false }];
        let of = |target: &str| hash(&policies, &request(target, &[])).0;
        assert_eq!(of("/?a=1&k=%31&k=2"), Some(xxh64(b"%31")));
        assert_eq!(of("/?k"), Some(xxh64(b"")));
        assert_eq!(of("/?kk=1"), None);
        assert_eq!(of("/"), None);
    }

    #[test]
    fn the_client_is_known_by_its_address() {
        let policies = [HashPolicy { of: HashOf::SourceIp, terminal: false }];
        assert_eq!(hash(&policies, &request("/", &[])).0, Some(xxh64(b"10.0.0.1")));
    }
}
