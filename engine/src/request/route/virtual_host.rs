//! Selects the virtual host by the request's host: exact name, longest `*.suffix`, longest
//! `prefix.*`, `*`.
//!
//! Hosts are compared without ASCII case and including their port.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::radix::Radix;

/// The domains of a route configuration, each with the index of its virtual host.
#[derive(Debug)]
pub(super) struct Domains {
    /// Exact names, and the text before the star of `prefix*`.
    forward: Radix<Names>,
    /// The text after the star of `*suffix`, reversed.
    backward: Radix<usize>,
    any: Option<usize>,
}

#[derive(Debug, Default)]
struct Names {
    exact: Option<usize>,
    prefix: Option<usize>,
}

/// Collects the domains of a route configuration and rejects duplicates.
#[derive(Debug, Default)]
pub(super) struct DomainsBuilder {
    forward: BTreeMap<Vec<u8>, Names>,
    backward: BTreeMap<Vec<u8>, usize>,
    any: Option<usize>,
}

/// A domain that the route configuration already has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Duplicate {
    /// A second `*`.
    Wildcard,
    /// The same domain again; case does not matter.
    Domain,
}

impl Domains {
    /// The virtual host for the host of a request.
    pub(super) fn find(&self, host: &[u8]) -> Option<usize> {
        if self.forward.is_empty() && self.backward.is_empty() {
            return self.any;
        }
        let lower = |byte: &u8| byte.to_ascii_lowercase();
        let forward = self.forward.prefixes_of(host.iter().map(lower));
        let exact = forward.clone().next().filter(|(len, _)| *len == host.len());
        if let Some(exact) = exact.and_then(|(_, names)| names.exact) {
            return Some(exact);
        }
        // A star matches at least one byte: only text shorter than the host counts.
        let backward = self.backward.prefixes_of(host.iter().rev().map(lower));
        let suffix = backward.filter(|(len, _)| *len < host.len()).map(|(_, index)| *index).next();
        let prefix =
            || forward.filter(|(len, _)| *len < host.len()).find_map(|(_, names)| names.prefix);
        suffix.or_else(prefix).or(self.any)
    }
}

impl DomainsBuilder {
    pub(super) fn add(&mut self, domain: &str, virtual_host: usize) -> Result<(), Duplicate> {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            return match self.any.replace(virtual_host) {
                None => Ok(()),
                Some(_) => Err(Duplicate::Wildcard),
            };
        }
        if let Some(suffix) = domain.strip_prefix('*') {
            return match self.backward.entry(suffix.bytes().rev().collect()) {
                Entry::Occupied(_) => Err(Duplicate::Domain),
                Entry::Vacant(vacant) => {
                    vacant.insert(virtual_host);
                    Ok(())
                }
            };
        }
        let (text, is_prefix) = match domain.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (&*domain, false),
        };
        let names = self.forward.entry(text.as_bytes().to_vec()).or_default();
        let slot = if is_prefix { &mut names.prefix } else { &mut names.exact };
        match slot.replace(virtual_host) {
            None => Ok(()),
            Some(_) => Err(Duplicate::Domain),
        }
    }

    pub(super) fn build(self) -> Domains {
        Domains {
            forward: Radix::new(self.forward),
            backward: Radix::new(self.backward),
            any: self.any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains(domains: &[&str]) -> Domains {
        let mut builder = DomainsBuilder::default();
        for (index, domain) in domains.iter().enumerate() {
            builder.add(domain, index).unwrap();
        }
        builder.build()
    }

    fn chosen<'a>(list: &[&'a str], host: &str) -> Option<&'a str> {
        domains(list).find(host.as_bytes()).map(|index| list[index])
    }

    #[test]
    fn exact_then_suffix_then_prefix_then_any() {
        let list = ["*", "foo.*", "*.test", "foo.test"];
        assert_eq!(chosen(&list, "foo.test"), Some("foo.test"));
        assert_eq!(chosen(&list, "foo.bar.test"), Some("*.test"));
        assert_eq!(chosen(&list, "foo.org"), Some("foo.*"));
        assert_eq!(chosen(&list, "example.org"), Some("*"));
    }

    #[test]
    fn the_longest_wildcard_wins() {
        let list = ["*.test", "*-bar.foo.test", "foo.*", "foo.example.*"];
        assert_eq!(chosen(&list, "a-bar.foo.test"), Some("*-bar.foo.test"));
        assert_eq!(chosen(&list, "foo.example.org"), Some("foo.example.*"));
    }

    #[test]
    fn a_star_matches_at_least_one_byte() {
        assert_eq!(chosen(&["*.test", "bar*"], ".test"), None);
        assert_eq!(chosen(&["*.test", "bar*"], "bar"), None);
        assert_eq!(chosen(&["*.test", "bar*"], "bart"), Some("bar*"));
    }

    #[test]
    fn case_does_not_matter_and_the_port_does() {
        assert_eq!(chosen(&["API.test"], "api.TEST"), Some("API.test"));
        assert_eq!(chosen(&["api.test"], "api.test:15001"), None);
        assert_eq!(chosen(&["api.test:15001"], "api.test:15001"), Some("api.test:15001"));
    }

    #[test]
    fn a_domain_is_accepted_once() {
        let mut builder = DomainsBuilder::default();
        for domain in ["a.test", "*.test", "a*", "*"] {
            assert_eq!(builder.add(domain, 0), Ok(()), "{domain}");
        }
        for domain in ["A.TEST", "*.Test", "a*"] {
            assert_eq!(builder.add(domain, 1), Err(Duplicate::Domain), "{domain}");
        }
        assert_eq!(builder.add("*", 1), Err(Duplicate::Wildcard));
    }

    /// Envoy's rules, spelled out one by one.
    fn linear_search(list: &[String], host: &str) -> Option<usize> {
        let host = host.to_ascii_lowercase();
        let exact = list.iter().position(|domain| *domain == host);
        let longest = |text: fn(&str) -> Option<&str>, fits: fn(&str, &str) -> bool| {
            let texts = list.iter().enumerate().filter(|(_, domain)| *domain != "*");
            texts
                .filter_map(|(index, domain)| Some((index, text(domain)?)))
                .filter(|(_, text)| text.len() < host.len() && fits(&host, text))
                .max_by_key(|(_, text)| text.len())
                .map(|(index, _)| index)
        };
        exact
            .or_else(|| longest(|d| d.strip_prefix('*'), |host, text| host.ends_with(text)))
            .or_else(|| {
                longest(
                    |d| d.strip_suffix('*').filter(|d| !d.starts_with('*')),
                    |host, text| host.starts_with(text),
                )
            })
            .or_else(|| list.iter().position(|domain| domain == "*"))
    }

    proptest! {
        #[test]
        fn the_index_finds_the_same_as_a_linear_search(
            list in proptest::collection::btree_set(r"\*?[ab.]{1,3}|[ab.]{1,3}\*|\*", 0..12),
            host in "[abAB.]{0,6}",
        ) {
            let list: Vec<String> = list.into_iter().collect();
            let mut builder = DomainsBuilder::default();
            for (index, domain) in list.iter().enumerate() {
                prop_assert_eq!(builder.add(domain, index), Ok(()));
            }
            prop_assert_eq!(builder.build().find(host.as_bytes()), linear_search(&list, &host));
        }
    }
}
