//! Rate limit descriptors: what the actions of a `RateLimit` make of a request. Which limit applies to a
//! descriptor, and whether it is reached, is decided by who counts.
//!
//! Invariant: a request yields at most one descriptor for each `RateLimit`, with at most one entry for each
//! of its actions.

pub(crate) mod compile;
mod descriptor;
mod limit_override;

use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use self::descriptor::{Descriptor, Entries, entries};
pub(crate) use self::limit_override::LimitOverride;
use self::limit_override::OverrideSource;
use super::query::parameter;
use crate::address::Cidr;
use crate::cel::Program;
use crate::format::{Formatter, Inputs, Unset};
use crate::head_matcher::{HeaderMatcher, HeaderName, QueryParameterMatcher};
use crate::metadata::MetadataOf;
use crate::runtime::RuntimeFraction;

/// `config.route.v3.RateLimit`
#[derive(Debug)]
pub(crate) struct RateLimit {
    actions: Box<[Action]>,
    /// None: as many as the filter counts.
    hits: Option<Hits>,
    /// Whether hits are taken back: the bucket is filled.
    is_negative: bool,
    headers: QuotaHeaders,
    /// Which of the filters use it.
    stage: u32,
    /// `disable_key`: as in Envoy, a filter that counts by itself leaves it out.
    is_disabled_here: bool,
    /// The fraction of the requests that a filter which asks a service counts; none: all.
    enabled: Option<RuntimeFraction>,
    /// The limit that the request brings along.
    limit: Option<OverrideSource>,
}

/// The rate limits that a route has for filters.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    own: Box<[RateLimit]>,
    virtual_host: Option<Arc<[RateLimit]>>,
    includes_virtual_host: bool,
}

/// `vh_rate_limits`: when those of the virtual host count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum VirtualHostLimits {
    /// If the route has none.
    #[default]
    Override,
    Include,
    /// Only if the route includes them.
    Ignore,
}

impl RouteLimits {
    /// Those that a filter of this stage counts by itself.
    pub(crate) fn counted_here(
        &self,
        stage: u32,
        option: VirtualHostLimits,
    ) -> impl Iterator<Item = &RateLimit> {
        self.of_stage(stage, option).filter(|limit| !limit.is_disabled_here)
    }

    /// The descriptors for a filter of this stage that asks a service. As in Envoy, it does not learn how many
    /// hits the request counts. `random` draws numbers.
    pub(crate) fn descriptors(
        &self,
        stage: u32,
        option: VirtualHostLimits,
        inputs: &Inputs<'_>,
        mut random: impl FnMut() -> u64,
    ) -> Vec<Descriptor> {
        let all = self.of_stage(stage, option);
        let all =
            all.filter(|limit| limit.enabled.as_ref().is_none_or(|part| part.includes(random())));
        let all = all.filter_map(|limit| limit.descriptor(inputs));
        all.map(|descriptor| Descriptor { hits: None, is_negative: false, ..descriptor }).collect()
    }

    fn of_stage(&self, stage: u32, option: VirtualHostLimits) -> impl Iterator<Item = &RateLimit> {
        let with_virtual_host = self.includes_virtual_host
            || match option {
                VirtualHostLimits::Override => self.own.is_empty(),
                VirtualHostLimits::Include => true,
                VirtualHostLimits::Ignore => false,
            };
        let virtual_host = self.virtual_host.iter().filter(move |_| with_virtual_host);
        let all = self.own.iter().chain(virtual_host.flat_map(|limits| limits.iter()));
        all.filter(move |limit| limit.stage == stage)
    }
}

/// `hits_addend`: how many hits a request counts.
#[derive(Debug)]
enum Hits {
    Number(u64),
    /// A number that is computed; if it is none, there is no descriptor.
    Format(Box<Formatter>),
}

/// `x_ratelimit_option`: whether the client learns of its quota.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum QuotaHeaders {
    /// As the filter says.
    #[default]
    Unspecified,
    Off,
    On,
}

/// Adds an entry to a descriptor.
#[derive(Debug)]
enum Action {
    /// `source_cluster` and `generic_key`: always the same.
    Constant(Constant),
    DestinationCluster,
    RequestHeader {
        name: HeaderName,
        key: Box<[u8]>,
        absent: Absent,
    },
    QueryParameter {
        name: Box<[u8]>,
        key: Box<[u8]>,
        absent: Absent,
    },
    RemoteAddress,
    /// With the lengths of the prefixes.
    MaskedRemoteAddress {
        v4: u8,
        v6: u8,
    },
    HeaderMatch {
        entry: Constant,
        expect: bool,
        headers: Box<[HeaderMatcher]>,
    },
    QueryMatch {
        entry: Constant,
        expect: bool,
        parameters: Box<[QueryParameterMatcher]>,
    },
    AddressMatch {
        key: Box<[u8]>,
        value: Box<Formatter>,
        default: Box<[u8]>,
        ranges: Box<[Cidr]>,
        invert: bool,
    },
    Metadata {
        key: Box<[u8]>,
        source: MetadataSource,
        namespace: Box<str>,
        path: Box<[Box<str>]>,
        default: Box<[u8]>,
        absent: Absent,
    },
    Expression {
        key: Box<[u8]>,
        program: Box<Program>,
        absent: Absent,
    },
}

/// Where metadata is.
#[derive(Clone, Copy, Debug)]
enum MetadataSource {
    Configured(MetadataOf),
    Dynamic,
}

/// An entry that does not depend on the request.
#[derive(Debug)]
struct Constant {
    key: Box<[u8]>,
    value: Box<[u8]>,
}

/// What happens if there is no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Absent {
    /// There is no descriptor.
    NoDescriptor,
    /// The descriptor has no such entry.
    NoEntry,
}

/// Why there is no entry.
enum Missing {
    NoDescriptor,
    NoEntry,
}

impl RateLimit {
    /// The descriptor of a request, if it has one.
    pub(crate) fn descriptor(&self, inputs: &Inputs<'_>) -> Option<Descriptor> {
        let mut entries = Entries::default();
        for action in &self.actions {
            match action.add(inputs, &mut entries) {
                Ok(()) | Err(Missing::NoEntry) => {}
                Err(Missing::NoDescriptor) => return None,
            }
        }
        Some(Descriptor {
            entries: entries.finish(),
            hits: match &self.hits {
                Some(hits) => Some(hits.of(inputs)?),
                None => None,
            },
            is_negative: self.is_negative,
            headers: self.headers,
            limit: self.limit.as_ref().and_then(|limit| limit.of(inputs)),
        })
    }
}

impl Hits {
    fn of(&self, inputs: &Inputs<'_>) -> Option<u64> {
        const MAX: f64 = 1e9;
        match self {
            Self::Number(number) => Some(*number),
            Self::Format(format) => {
                let mut text = Vec::new();
                format.format(inputs, Unset::Empty, &mut text);
                let number: f64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is in the range; as in Envoy fractions are dropped"
                )]
                (0.0..=MAX).contains(&number).then_some(number as u64)
            }
        }
    }
}

impl Action {
    fn add(&self, inputs: &Inputs<'_>, entries: &mut Entries) -> Result<(), Missing> {
        let request = inputs.request.ok_or(Missing::NoDescriptor)?;
        match self {
            Self::Constant(entry) => entry.add(entries),
            Self::DestinationCluster => {
                let cluster = inputs.stream.upstream_cluster_raw().ok_or(Missing::NoDescriptor)?;
                entries.add(b"destination_cluster", cluster.as_bytes());
            }
            Self::RequestHeader { name, key, absent } => {
                entries.add(key, name.first_value(request).ok_or_else(|| absent.missing())?);
            }
            Self::QueryParameter { name, key, absent } => {
                entries.add(key, &parameter(request, name).ok_or_else(|| absent.missing())?);
            }
            Self::RemoteAddress => {
                entries.add(b"remote_address", client(inputs)?.to_string().as_bytes());
            }
            Self::MaskedRemoteAddress { v4, v6 } => {
                let address = client(inputs)?;
                let prefix_len = if address.is_ipv4() { *v4 } else { *v6 };
                let Cidr { address, prefix_len } = Cidr { address, prefix_len }.normalized();
                let text = format!("{address}/{prefix_len}");
                entries.add(b"masked_remote_address", text.as_bytes());
            }
            Self::HeaderMatch { entry, expect, headers } => {
                let matches = headers.iter().all(|matcher| matcher.matches(request));
                entry.add_if(matches == *expect, entries)?;
            }
            Self::QueryMatch { entry, expect, parameters } => {
                let matches = parameters.iter().all(|matcher| {
                    matcher.condition.holds(parameter(request, &matcher.name).as_deref())
                });
                entry.add_if(matches == *expect, entries)?;
            }
            Self::AddressMatch { key, value, default, ranges, invert } => {
                let address = client(inputs)?;
                if ranges.iter().any(|range| range.contains(address)) == *invert {
                    return Err(Missing::NoDescriptor);
                }
                let mut text = Vec::new();
                value.format(inputs, Unset::Empty, &mut text);
                entries.add(key, or_default(&text, default).ok_or(Missing::NoDescriptor)?);
            }
            Self::Metadata { key, source, namespace, path, default, absent } => {
                let text = source.text(inputs, namespace, path).unwrap_or_default();
                let text = or_default(text.as_bytes(), default);
                entries.add(key, text.ok_or_else(|| absent.missing())?);
            }
            Self::Expression { key, program, absent } => {
                let mut text = Vec::new();
                program.write(inputs, &mut text).ok_or_else(|| absent.missing())?;
                entries.add(key, &text);
            }
        }
        Ok(())
    }
}

impl MetadataSource {
    /// A value that is a text.
    fn text<'a>(self, inputs: &Inputs<'a>, namespace: &str, path: &[Box<str>]) -> Option<&'a str> {
        let metadata = match self {
            Self::Configured(of) => inputs.stream.static_metadata(of)?,
            Self::Dynamic => inputs.stream.dynamic_metadata()?,
        };
        metadata.find(namespace, path)?.as_str()
    }
}

impl Constant {
    fn add(&self, entries: &mut Entries) {
        entries.add(&self.key, &self.value);
    }

    fn add_if(&self, condition: bool, entries: &mut Entries) -> Result<(), Missing> {
        if !condition {
            return Err(Missing::NoDescriptor);
        }
        self.add(entries);
        Ok(())
    }
}

impl Absent {
    const fn missing(self) -> Missing {
        match self {
            Self::NoDescriptor => Missing::NoDescriptor,
            Self::NoEntry => Missing::NoEntry,
        }
    }
}

/// The address of the client, also as given by trusted headers.
fn client(inputs: &Inputs<'_>) -> Result<IpAddr, Missing> {
    let address = inputs.stream.downstream_remote_address();
    address.and_then(|address| address.ip()).ok_or(Missing::NoDescriptor)
}

fn or_default<'a>(text: &'a [u8], default: &'a [u8]) -> Option<&'a [u8]> {
    let text = if text.is_empty() { default } else { text };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod compile_tests;
