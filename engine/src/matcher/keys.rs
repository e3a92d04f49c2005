//! The keys of matcher trees that are neither plain texts nor prefixes: ranges of addresses and domains.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::Cidr;

/// Values by ranges of addresses.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    /// The lengths of the prefixes, each once, the longest first.
    lengths: Vec<u8>,
    /// The values of each range, in declared order.
    by_range: HashMap<Cidr, Vec<usize>>,
    values: Vec<Ranged<T>>,
}

#[derive(Debug)]
struct Ranged<T> {
    value: T,
    /// It counts only if no longer range contains the address.
    exclusive: bool,
}

impl<T> Ranges<T> {
    /// Each value with its ranges and whether it is `exclusive`.
    pub(super) fn new(declared: impl IntoIterator<Item = (Vec<Cidr>, bool, T)>) -> Self {
        let mut ranges = Self { lengths: Vec::new(), by_range: HashMap::new(), values: Vec::new() };
        for (cidrs, exclusive, value) in declared {
            let index = ranges.values.len();
            for range in cidrs {
                let range = range.normalized();
                ranges.lengths.push(range.prefix_len);
                ranges.by_range.entry(range).or_default().push(index);
            }
            ranges.values.push(Ranged { value, exclusive });
        }
        ranges.lengths.sort_unstable_by(|a, b| b.cmp(a));
        ranges.lengths.dedup();
        ranges
    }

    /// The values of the ranges that contain the address, the longest first, then in declared order.
    pub(super) fn containing(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let of_length = move |prefix_len: &u8| {
            let range = Cidr { address, prefix_len: *prefix_len }.normalized();
            // A length beyond that of the address was looked up as the shorter one.
            let is_own = range.prefix_len == *prefix_len;
            self.by_range.get(&range).filter(|_| is_own).map_or(&[][..], Vec::as_slice)
        };
        let values = self.lengths.iter().flat_map(of_length);
        let values = values.filter_map(|index| self.values.get(*index)).enumerate();
        values.filter(|(i, ranged)| *i == 0 || !ranged.exclusive).map(|(_, ranged)| &ranged.value)
    }
}

/// Values by domains: `a.example`, `*.example` and `*`.
#[derive(Debug)]
pub(super) struct ServerNames<T> {
    /// Indexes of values, by the domain in lower case; `.example` stands for `*.example`, and the empty
    /// text for `*`.
    by_domain: HashMap<Box<str>, usize>,
    values: Vec<T>,
}

/// A domain that two values have.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Repeated {
    /// The index of the second value, and of the domain in its list.
    pub(super) at: (usize, usize),
}

impl<T> ServerNames<T> {
    /// Each value with its domains.
    pub(super) fn new(declared: Vec<(Vec<String>, T)>) -> Result<Self, Repeated> {
        let mut by_domain = HashMap::new();
        let mut values = Vec::with_capacity(declared.len());
        for (index, (domains, value)) in declared.into_iter().enumerate() {
            for (i, domain) in domains.into_iter().enumerate() {
                let domain = domain.to_ascii_lowercase();
                let key = domain.strip_prefix('*').unwrap_or(&domain);
                if by_domain.insert(key.into(), index).is_some() {
                    return Err(Repeated { at: (index, i) });
                }
            }
            values.push(value);
        }
        Ok(Self { by_domain, values })
    }

    /// The values of the domains that contain the name, the most specific first.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = &T> {
        let name = name.to_ascii_lowercase();
        let dots = name.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at);
        let suffixes: Vec<usize> = dots.collect();
        let exact = self.by_domain.get(&*name).filter(|_| !name.is_empty());
        let wildcards = suffixes
            .into_iter()
            .filter_map(move |at| self.by_domain.get(name.get(at..).unwrap_or_default()));
        let any = self.by_domain.get("");
        let indexes = exact.into_iter().chain(wildcards).chain(any);
        indexes.filter_map(|index| self.values.get(*index))
    }
}
