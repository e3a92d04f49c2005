//! The network filters before the terminal one of a chain. They decide whether a connection is served
//! and set filter state for later filters; none of them changes the data.
//!
//! Each may act on a new connection and on received data. As in Envoy, the terminal filter sees a new
//! connection right after them, so `tcp_proxy` connects to its upstream before a filter that waits for
//! data has decided.
//!
//! Invariant: filters run in the order of the configuration, and after one refuses, none of the others
//! runs.

pub mod connection_limit;
pub mod local_ratelimit;
pub mod rbac;
pub mod set_filter_state;

use std::rc::Rc;
use std::time::Duration;

use self::connection_limit::{ConnectionLimit, Permit};
use self::local_ratelimit::LocalRateLimit;
use self::rbac::Rbac;
use self::set_filter_state::SetFilterState;
use super::filter_state::FilterState;
use crate::address::Address;
use crate::listener_facts::ListenerFacts;
use crate::shard::Shard;
use crate::transport::tls::facts::TlsFacts;

/// The filters of a chain, without the terminal one.
#[derive(Debug, Default)]
pub struct Filters(Box<[Filter]>);

/// One filter.
#[derive(Debug)]
pub enum Filter {
    /// `connection_limit`
    ConnectionLimit(ConnectionLimit),
    /// `local_ratelimit`
    LocalRateLimit(LocalRateLimit),
    /// `rbac`
    Rbac(Box<Rbac>),
    /// `sni_cluster`: the server name is the name of the cluster.
    SniCluster,
    /// `set_filter_state`
    SetFilterState(SetFilterState),
}

/// What filters know about a connection, and the state that they set on it.
#[derive(Debug)]
pub struct Subject {
    /// The shard that serves it.
    pub shard: &'static Shard,
    /// Its id, unique in this process.
    pub id: u64,
    /// The remote address.
    pub peer: Address,
    /// The remote address of the socket; `peer` differs from it if a PROXY header has set that.
    pub direct_peer: Address,
    /// The local address.
    pub local: Address,
    /// The requested server name (SNI), if a listener filter or TLS has seen one.
    pub server_name: Option<Box<str>>,
    /// The results of the listener filters.
    pub listener_facts: Option<Rc<ListenerFacts>>,
    /// The result of the TLS handshake, if there was one.
    pub tls: Option<Rc<TlsFacts>>,
    /// The filter state.
    pub state: FilterState,
    /// The permits of `connection_limit`, held until the connection ends.
    permits: Vec<Permit>,
}

/// What a filter decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Verdict {
    /// The next filter runs.
    Continue,
    /// The connection is closed, after this delay if there is one.
    Close(Option<Duration>),
}

/// When filters run next on received data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Data {
    /// Nothing was received yet, and there are filters that wait for it.
    First,
    /// There are filters that run on everything received.
    Each,
    /// No more.
    Never,
}

impl Subject {
    /// A connection on which no filter has run yet.
    #[must_use]
    pub fn new(shard: &'static Shard, id: u64, peer: Address, local: Address) -> Self {
        Self {
            shard,
            id,
            peer,
            direct_peer: peer,
            local,
            server_name: None,
            listener_facts: None,
            tls: None,
            state: FilterState::default(),
            permits: Vec::new(),
        }
    }
}

impl Verdict {
    /// An error that carries the delay, for use with `?`.
    pub(super) const fn into_result(self) -> Result<(), Option<Duration>> {
        match self {
            Self::Continue => Ok(()),
            Self::Close(delay) => Err(delay),
        }
    }
}

impl Filters {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Filters in this order.
    #[must_use]
    pub fn new(filters: Vec<Filter>) -> Self {
        Self(filters.into())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs the filters on a new connection.
    pub fn admit(&self, subject: &mut Subject) -> Verdict {
        self.first_refusal(|filter| match filter {
            Filter::ConnectionLimit(limit) => limit.admit(subject.shard.id, &mut subject.permits),
            Filter::LocalRateLimit(limit) => limit.admit(subject.shard),
            Filter::SniCluster => {
                if let Some(name) = subject.server_name.clone().filter(|name| !name.is_empty()) {
                    subject.state.cluster = Some(name);
                }
                Verdict::Continue
            }
            Filter::SetFilterState(values) => values.on_new_connection(subject),
            Filter::Rbac(_) => Verdict::Continue,
        })
    }

    /// When filters run first on received data.
    #[must_use]
    pub fn data(&self) -> Data {
        let waits = self.0.iter().any(|filter| match filter {
            Filter::Rbac(_) => true,
            Filter::SetFilterState(values) => values.has_values_on_data(),
            Filter::ConnectionLimit(_) | Filter::LocalRateLimit(_) | Filter::SniCluster => false,
        });
        if waits { Data::First } else { Data::Never }
    }

    /// Runs the filters on received data, before any of it is passed on.
    #[inline]
    pub fn check(&self, data: &mut Data, subject: &mut Subject) -> Verdict {
        match *data {
            Data::Never => Verdict::Continue,
            Data::First => {
                *data =
                    if self.0.iter().any(Filter::is_continuous) { Data::Each } else { Data::Never };
                self.first_refusal(|filter| match filter {
                    Filter::Rbac(rbac) => rbac.decide(subject),
                    Filter::SetFilterState(values) => values.on_data(subject),
                    Filter::ConnectionLimit(_) | Filter::LocalRateLimit(_) | Filter::SniCluster => {
                        Verdict::Continue
                    }
                })
            }
            Data::Each => self.first_refusal(|filter| match filter {
                Filter::Rbac(rbac) if filter.is_continuous() => rbac.decide(subject),
                _ => Verdict::Continue,
            }),
        }
    }

    /// Whether any filter runs on everything received, not only on the first data.
    #[must_use]
    pub fn has_continuous(&self) -> bool {
        self.0.iter().any(Filter::is_continuous)
    }

    fn first_refusal(&self, mut run: impl FnMut(&Filter) -> Verdict) -> Verdict {
        let verdicts = self.0.iter().map(&mut run);
        let refused = |verdict: &Verdict| *verdict != Verdict::Continue;
        verdicts.into_iter().find(refused).unwrap_or(Verdict::Continue)
    }
}

impl Filter {
    fn is_continuous(&self) -> bool {
        matches!(self, Self::Rbac(rbac) if rbac.enforcement == rbac::Enforcement::Continuous)
    }
}
