//! `filter_chain_match`: which filter chain serves a connection.
//!
//! Pure: it decides by what is known about a connection before it is served, and reads nothing from
//! it. The compiled form is a tree with one level per criterion, in Envoy's fixed order.
//!
//! Invariant: at most one chain matches a connection. There is no backtracking: once the most specific
//! value of a criterion has matched, chains with a less specific value are out.

pub mod compile;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::address::{Address, Cidr};
use crate::matcher::Subject;

/// What a chain requires of its connections. An empty list, an empty text and `None` match all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Criteria {
    /// `destination_port`
    pub destination_port: Option<u16>,
    /// `prefix_ranges`
    pub destinations: Vec<Cidr>,
    /// `server_names`, in lower case; `.example.com` stands for `*.example.com`.
    pub server_names: Vec<String>,
    /// `transport_protocol`
    pub transport_protocol: String,
    /// `application_protocols`
    pub application_protocols: Vec<String>,
    /// `direct_source_prefix_ranges`
    pub direct_sources: Vec<Cidr>,
    /// `source_type`
    pub source_type: SourceType,
    /// `source_prefix_ranges`
    pub sources: Vec<Cidr>,
    /// `source_ports`
    pub source_ports: Vec<u16>,
}

/// `source_type`
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SourceType {
    /// Any source.
    #[default]
    Any,
    /// The address of the client is also the local address of the connection, or is the loopback address.
    SameIpOrLoopback,
    /// Any other address.
    External,
}

/// What is known about a connection when its chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The local address; with `use_original_dst` or after a PROXY header the original destination.
    pub local: Address,
    /// The address of the client; after a PROXY header the announced one.
    pub remote: Address,
    /// The address that the connection comes from.
    pub direct_remote: Address,
    /// What listener filters have detected.
    pub detected: &'a Detected,
}

/// What listener filters have detected in the first bytes of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Detected {
    /// The transport protocol.
    pub transport: TransportProtocol,
    /// The server name that the client asks for, in lower case; may be empty.
    pub server_name: String,
    /// The application protocols that the client offers, in its order.
    pub application_protocols: Vec<Vec<u8>>,
}

/// The transport protocol of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TransportProtocol {
    /// `raw_buffer`: nothing else was detected.
    #[default]
    RawBuffer,
    /// `tls`: the connection begins with a ClientHello.
    Tls,
}

impl TransportProtocol {
    /// Its name in `transport_protocol`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RawBuffer => "raw_buffer",
            Self::Tls => "tls",
        }
    }
}

/// A connection that matches two chains: the chains must differ in some criterion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overlap {
    /// Index of the chain.
    pub chain: usize,
    /// Index of the other chain, which may be the same: one of its criteria repeats a value.
    pub other: usize,
}

/// The criteria of all chains of a listener, as a tree. Each level maps the values of one criterion to
/// the next level; a chain without that criterion is found under the value for "any".
#[derive(Debug)]
pub enum MatchTree {
    /// The index of the chain.
    Chain(usize),
    /// A port; 0: any.
    Port(PortOf, HashMap<u16, Self>),
    /// An address; the longest prefix first.
    Range(AddressOf, Vec<(Cidr, Self)>),
    /// A name; empty: any.
    Name(NameOf, HashMap<String, Self>),
    /// The type of the source.
    Source(HashMap<SourceType, Self>),
}

/// Whose port a level looks at.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the criteria of the configuration")]
pub enum PortOf {
    Destination,
    Source,
}

/// Whose address a level looks at.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the criteria of the configuration")]
pub enum AddressOf {
    Destination,
    DirectSource,
    Source,
}

/// Which name a level looks at.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the criteria of the configuration")]
pub enum NameOf {
    Server,
    Transport,
    Application,
}

/// One criterion: a level of the tree.
#[derive(Clone, Copy)]
enum Level {
    Port(PortOf),
    Range(AddressOf),
    Name(NameOf),
    Source,
}

//= envoy: api FilterChainMatch
// The order in which the criteria are looked at.
const LEVELS: [Level; 9] = [
    Level::Port(PortOf::Destination),
    Level::Range(AddressOf::Destination),
    Level::Name(NameOf::Server),
    Level::Name(NameOf::Transport),
    Level::Name(NameOf::Application),
    Level::Range(AddressOf::DirectSource),
    Level::Source,
    Level::Range(AddressOf::Source),
    Level::Port(PortOf::Source),
];

/// A chain while the tree is built.
type Numbered<'a> = (usize, &'a Criteria);

impl MatchTree {
    /// The tree of these chains.
    ///
    /// # Errors
    /// When two of them match the same connections, or there is none.
    pub fn new(chains: &[Criteria]) -> Result<Self, Overlap> {
        let chains: Vec<Numbered<'_>> = chains.iter().enumerate().collect();
        Self::grow(&LEVELS, &chains)
    }

    fn grow(levels: &[Level], chains: &[Numbered<'_>]) -> Result<Self, Overlap> {
        let Some((level, levels)) = levels.split_first() else {
            return match chains {
                [(other, _), (chain, _), ..] => Err(Overlap { chain: *chain, other: *other }),
                [(chain, _)] => Ok(Self::Chain(*chain)),
                [] => Ok(Self::Source(HashMap::new())), // without chains: nothing matches
            };
        };
        let grow = |chains: Vec<Numbered<'_>>| Self::grow(levels, &chains);
        Ok(match *level {
            Level::Port(whose) => {
                Self::Port(whose, branches(chains, |criteria| whose.wanted(criteria), grow)?)
            }
            Level::Range(whose) => {
                let branches = branches(chains, |criteria| whose.wanted(criteria), grow)?;
                let mut branches: Vec<(Cidr, Self)> = branches.into_iter().collect();
                branches.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len));
                Self::Range(whose, branches)
            }
            Level::Name(whose) => {
                Self::Name(whose, branches(chains, |criteria| whose.wanted(criteria), grow)?)
            }
            Level::Source => {
                Self::Source(branches(chains, |criteria| vec![criteria.source_type], grow)?)
            }
        })
    }

    /// The index of the chain that serves the connection.
    #[must_use]
    pub fn find(&self, connection: &Connection<'_>) -> Option<usize> {
        let mut tree = self;
        loop {
            tree = match tree {
                Self::Chain(index) => return Some(*index),
                Self::Port(whose, branches) => {
                    branches.get(&whose.of(connection)).or_else(|| branches.get(&0))?
                }
                Self::Range(whose, branches) => {
                    let address = whose.of(connection);
                    let (_, tree) = branches.iter().find(|(range, _)| range.contains(address))?;
                    tree
                }
                Self::Name(whose, branches) => whose.find(connection, branches)?,
                Self::Source(branches) => {
                    let source = if connection.remote.is_on_this_machine(connection.local) {
                        SourceType::SameIpOrLoopback
                    } else {
                        SourceType::External
                    };
                    branches.get(&source).or_else(|| branches.get(&SourceType::Any))?
                }
            };
        }
    }
}

/// Puts the chains under each of the values that they want, and lets a subtree grow from each value.
fn branches<K: Eq + std::hash::Hash>(
    chains: &[Numbered<'_>],
    wanted: impl Fn(&Criteria) -> Vec<K>,
    grow: impl Fn(Vec<Numbered<'_>>) -> Result<MatchTree, Overlap>,
) -> Result<HashMap<K, MatchTree>, Overlap> {
    let mut by_value: HashMap<K, Vec<Numbered<'_>>> = HashMap::new();
    for chain in chains {
        for value in wanted(chain.1) {
            by_value.entry(value).or_default().push(*chain);
        }
    }
    by_value.into_iter().map(|(value, chains)| Ok((value, grow(chains)?))).collect()
}

impl PortOf {
    fn wanted(self, criteria: &Criteria) -> Vec<u16> {
        match self {
            Self::Destination => vec![criteria.destination_port.unwrap_or(0)],
            Self::Source => or_any(&criteria.source_ports),
        }
    }

    fn of(self, connection: &Connection<'_>) -> u16 {
        match self {
            Self::Destination => connection.local.port().unwrap_or(0),
            Self::Source => connection.remote.port().unwrap_or(0),
        }
    }
}

impl AddressOf {
    fn wanted(self, criteria: &Criteria) -> Vec<Cidr> {
        let ranges = match self {
            Self::Destination => &criteria.destinations,
            Self::DirectSource => &criteria.direct_sources,
            Self::Source => &criteria.sources,
        };
        if ranges.is_empty() {
            Cidr::ALL.to_vec()
        } else {
            ranges.iter().map(|range| range.normalized()).collect()
        }
    }

    fn of(self, connection: &Connection<'_>) -> IpAddr {
        let address = match self {
            Self::Destination => connection.local,
            Self::DirectSource => connection.direct_remote,
            Self::Source => connection.remote,
        };
        // Envoy: a unix socket is only in ranges of all addresses.
        address.ip().unwrap_or(IpAddr::V4(Ipv4Addr::BROADCAST))
    }
}

impl NameOf {
    fn wanted(self, criteria: &Criteria) -> Vec<String> {
        match self {
            Self::Server => or_any(&criteria.server_names),
            Self::Transport => vec![criteria.transport_protocol.clone()],
            Self::Application => or_any(&criteria.application_protocols),
        }
    }

    /// The branch of the most specific name.
    fn find<'t>(
        self,
        connection: &Connection<'_>,
        branches: &'t HashMap<String, MatchTree>,
    ) -> Option<&'t MatchTree> {
        let detected = connection.detected;
        let found = match self {
            Self::Server => with_parents(&detected.server_name).find_map(|it| branches.get(it)),
            Self::Transport => branches.get(detected.transport.name()),
            Self::Application => {
                let offered = detected.application_protocols.iter();
                // A name that is not UTF-8 is in no configuration.
                let mut offered = offered.filter_map(|name| std::str::from_utf8(name).ok());
                offered.find_map(|name| branches.get(name))
            }
        };
        found.or_else(|| branches.get(""))
    }
}

/// The name, then the wildcards that it matches: `.b.c` and `.c` for `a.b.c`. A name that begins with
/// a dot is not its own wildcard, and a final dot is not one either.
fn with_parents(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.char_indices().filter(|(at, c)| *c == '.' && *at > 0 && *at + 1 < name.len());
    std::iter::once(name).chain(dots.filter_map(|(at, _)| name.get(at..)))
}

/// The values, or the one that stands for "any".
fn or_any<T: Clone + Default>(values: &[T]) -> Vec<T> {
    if values.is_empty() { vec![T::default()] } else { values.to_vec() }
}

/// What the tree of a `filter_chain_matcher` looks at.
impl Subject for Connection<'_> {
    fn destination(&self) -> Option<Address> {
        Some(self.local)
    }

    fn source(&self) -> Option<Address> {
        Some(self.remote)
    }

    fn direct_source(&self) -> Option<Address> {
        Some(self.direct_remote)
    }

    fn server_name(&self) -> Option<&str> {
        Some(&self.detected.server_name)
    }

    fn transport_protocol(&self) -> Option<&str> {
        Some(self.detected.transport.name())
    }

    fn application_protocols(&self) -> &[Vec<u8>] {
        &self.detected.application_protocols
    }
}
