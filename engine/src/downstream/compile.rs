//! Schema → listeners and their filter chains.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problem, Problems, Severity};

use super::connection_balance::{ConnectionBalance, ExactBalance};
use super::connection_limit::{ConnectionLimit, Limits};
use super::filter_chain_compile::{Known, filter_chain};
use super::filter_chain_match::{self, Criteria, MatchTree, Overlap};
use super::filter_chains::{Choice, FilterChains};
use super::socket_settings::{self, SocketSettings};
use super::{ListenAddress, Listener, listener_filters};
use crate::access_log;
use crate::access_log::compile::access_logs;
use crate::address;
use crate::common_compile;
use crate::fingerprint::Fingerprint;
use crate::limits;
use crate::matcher::compile::LooksAt;
use crate::matcher::{self, Matcher};
use crate::metadata::Metadata;
use crate::node::Node;
use crate::request::filters::ClusterChains;
use crate::request::manager::PrematureResets;
use crate::request::mirror::ClusterPolicies;
use crate::runtime::Reader;
use crate::shard::drain::Direction;
use crate::stats::Registry;
use crate::tcp::compile::SharedBuckets;
use crate::transport::tls::context as tls;
use crate::upstream::dns_cache::compile::DnsCaches;
use crate::upstream::numbers::Uses;

/// What a listener needs from the rest of the configuration.
#[expect(missing_debug_implementations, reason = "it has a function")]
pub struct Context<'a> {
    /// The number of a cluster by its name.
    pub cluster: &'a dyn Fn(&str) -> Option<usize>,
    /// The clusters whose numbers were asked for.
    pub(crate) uses: &'a RefCell<Uses>,
    /// The filter chains that are in force.
    pub(crate) known: &'a Known<'a>,
    /// The identity of the proxy.
    pub node: &'a Node,
    /// The runtime values.
    pub runtime: &'a Reader<'a>,
    /// The token buckets that network filters share.
    pub buckets: &'a SharedBuckets,
    /// The DNS caches that are in use.
    pub(crate) dns_caches: &'a DnsCaches,
    /// What access logs need.
    pub access_logs: access_log::compile::Context<'a>,
    /// What transport sockets need.
    pub tls: &'a tls::compile::Secrets,
    /// The mirrors that clusters want.
    pub cluster_mirrors: &'a Arc<ClusterPolicies>,
    /// The HTTP filters of clusters.
    pub cluster_filters: &'a Arc<ClusterChains>,
    /// The limit on the connections of all listeners that the overload manager sets.
    pub overload_limit: Option<Arc<ConnectionLimit>>,
    /// The limit that a runtime value sets, for listeners to which the former does not apply.
    pub runtime_limit: Option<Arc<ConnectionLimit>>,
}

/// What the filter chains of a listener take from it.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) name: &'a str,
    pub(super) metadata: &'a Metadata,
    /// Of its stats.
    pub(super) prefix: &'a str,
    pub(super) direction: Direction,
    pub(super) buffer_limit: usize,
}

/// Compiles the listener at `at`.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub fn listener(
    listener: &config::Listener,
    at: &Path,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Listener> {
    let config::Listener {
        name,
        address,
        stat_prefix,
        filter_chains,
        default_filter_chain,
        filter_chain_matcher,
        per_connection_buffer_limit_bytes,
        drain_type,
        traffic_direction,
        freebind,
        transparent,
        tcp_fast_open_queue_length,
        tcp_backlog_size,
        tcp_keepalive,
        bind_to_port,
        reuse_port,
        enable_reuse_port,
        ignore_global_conn_limit,
        bypass_overload_manager,
        max_connections_to_accept_per_socket_event,
        connection_balance_config,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        socket_options,
        additional_addresses,
        use_original_dst,
        metadata,
        access_log,
    } = listener;
    // The deprecated spelling of what is the default.
    let _ = reuse_port;
    let mut refuse = |field: &str, what: &str| problems.not_implemented(&at.field(field), what);
    if *drain_type == config::DrainType::ModifyOnly {
        refuse("drain_type", "MODIFY_ONLY");
    }
    let sockets = socket_settings::compile::Schema {
        tcp_backlog_size: *tcp_backlog_size,
        tcp_keepalive: tcp_keepalive.as_ref(),
        freebind: *freebind,
        transparent: *transparent,
        tcp_fast_open_queue_length: *tcp_fast_open_queue_length,
        enable_reuse_port: *enable_reuse_port,
        socket_options,
    };
    let addresses = addresses(address.as_ref(), additional_addresses, sockets, at, problems);
    let first = addresses.as_deref().and_then(<[_]>::first).map(|it| it.address);
    let text = first.map_or_else(String::new, |address| address.to_string());
    let stat_name = if stat_prefix.is_empty() { &text } else { stat_prefix };
    let prefix = format!("listener.{}.", stat_name.replace(':', "_"));
    let shown_name = if name.is_empty() { &text } else { name };
    let metadata = common_compile::metadata(metadata.as_ref());
    let common = Common {
        name: shown_name,
        metadata: &metadata,
        prefix: &prefix,
        direction: direction(*traffic_direction),
        buffer_limit: buffer_limit(*per_connection_buffer_limit_bytes),
    };
    let hands_over = use_original_dst.is_some_and(|on| on);
    let mut listener_filters = listener_filters::compile::listener_filters(
        listener_filters,
        *listener_filters_timeout,
        *continue_on_listener_filters_timeout,
        at,
        registry,
        problems,
    );
    if let (true, Some(listener_filters)) = (hands_over, &mut listener_filters) {
        listener_filters.add_original_dst();
    }
    let chains = Chains {
        listed: filter_chains,
        default: default_filter_chain.as_ref(),
        matcher: filter_chain_matcher.as_ref(),
    };
    let filter_chains = self::filter_chains(&chains, at, &common, context, registry, problems);
    let at = at.field("access_log");
    let access_logs = access_logs(access_log, &at, context.access_logs, problems);
    Some(Listener {
        name: shown_name.clone(),
        direction: common.direction,
        addresses: addresses?,
        binds: bind_to_port.unwrap_or(true),
        hands_over,
        accept_burst: max_connections_to_accept_per_socket_event
            .and_then(|most| usize::try_from(most).ok())
            .map_or(limits::ACCEPT_BURST_MAX, |most| most.clamp(1, limits::ACCEPT_BURST_MAX)),
        balance: balance(connection_balance_config.as_ref(), registry.shards()),
        limits: limits(name, *ignore_global_conn_limit, *bypass_overload_manager, context),
        listener_filters: listener_filters?,
        filter_chains: filter_chains?,
        access_logs,
        stats: registry.scope(&prefix),
        frame: Fingerprint::of(&without_chains(listener), 0),
    })
}

/// `address` and `additional_addresses`. An additional one may have socket options of its own.
fn addresses(
    address: Option<&config::Address>,
    additional: &[config::AdditionalAddress],
    sockets: socket_settings::compile::Schema<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<ListenAddress>> {
    // The process itself connects to an internal listener.
    let has_address = problems.is_read(&at.field("internal_listener"));
    let mut compile = |address: Option<&config::Address>, sockets, at: &Path, options_at: &Path| {
        let settings = socket_settings::compile::settings(sockets, options_at, problems);
        let at = at.field("address");
        let Some(address) = address else {
            if has_address {
                problems.missing(&at, "address is necessary");
            }
            return None;
        };
        let listening = address::compile::listening(address, &at, problems)?;
        let address::compile::Listening { address, ipv4_compat, mode } = listening;
        let settings = SocketSettings { ipv4_compat, mode, ..settings };
        Some(ListenAddress { address, settings })
    };
    let mut addresses = vec![compile(address, sockets, at, &at.field("socket_options"))];
    for (i, address) in additional.iter().enumerate() {
        let config::AdditionalAddress { address, socket_options } = address;
        let at = at.field("additional_addresses").index(i);
        let own = socket_options.as_ref();
        let own = own.map(|config::SocketOptionsOverride { socket_options }| &**socket_options);
        let socket_options = own.unwrap_or(sockets.socket_options);
        let sockets = socket_settings::compile::Schema { socket_options, ..sockets };
        let options_at = at.field("socket_options").field("socket_options");
        addresses.push(compile(address.as_ref(), sockets, &at, &options_at));
    }
    addresses.into_iter().collect()
}

fn direction(direction: config::TrafficDirection) -> Direction {
    match direction {
        config::TrafficDirection::Inbound => Direction::Inbound,
        config::TrafficDirection::Outbound | config::TrafficDirection::Unspecified => {
            Direction::Other
        }
    }
}

/// The limits on the connections of the listener, and of all listeners together.
fn limits(
    listener: &str,
    ignore_global_conn_limit: bool,
    bypass_overload_manager: bool,
    context: &Context<'_>,
) -> Limits {
    let overload_limit = context.overload_limit.as_ref().filter(|_| !bypass_overload_manager);
    let global = overload_limit.or(context.runtime_limit.as_ref());
    Limits {
        global: global.filter(|_| !ignore_global_conn_limit).map(Arc::clone),
        listener: context.runtime.integer(&limit_key(listener)).map(ConnectionLimit::new),
    }
}

/// As in Envoy the kernel distributes connections, unless `exact_balance` is set; but a markedly uneven
/// distribution is corrected.
fn balance(config: Option<&config::ConnectionBalanceConfig>, shards: usize) -> ConnectionBalance {
    let exact = config.map(|config::ConnectionBalanceConfig { exact_balance }| exact_balance);
    match exact.and_then(Option::as_ref) {
        Some(config::ExactBalance {}) => ConnectionBalance::Exact(ExactBalance::new(shards)),
        None => ConnectionBalance::Approximate,
    }
}

/// The runtime key of the connection limit of a listener.
pub(crate) fn limit_key(listener: &str) -> String {
    format!("envoy.resource_limits.listener.{listener}.connection_limit")
}

/// The runtime key for how long a half-closed client may wait for its origin, in milliseconds. It is
/// Corvoy's own: Envoy treats a half-close as a disconnect.
pub(crate) const HALF_CLOSE_GRACE_KEY: &str = "corvoy.http.half_close_grace_ms";

/// The runtime keys that say when a client of HTTP/2 resets too many requests.
pub(crate) const PREMATURE_RESET_KEYS: [&str; 2] = [
    "overload.premature_reset_total_stream_count",
    "overload.premature_reset_min_stream_lifetime_seconds",
];

pub(super) fn premature_resets(runtime: &Reader<'_>) -> PrematureResets {
    let default = PrematureResets::default();
    let [requests, lifetime_s] = PREMATURE_RESET_KEYS.map(|key| runtime.integer(key));
    PrematureResets {
        requests: requests.unwrap_or(default.requests),
        lifetime_s: lifetime_s.unwrap_or(default.lifetime_s),
    }
}

/// `per_connection_buffer_limit_bytes`: how much of a request body is kept for a retry. The other
/// buffers of a connection are always smaller than Envoy's default of 1 MiB.
fn buffer_limit(bytes: Option<u32>) -> usize {
    bytes.map_or(limits::REPLAY_BYTES_MAX, |bytes| bytes as usize)
}

/// The filter chains of a listener in its configuration.
struct Chains<'a> {
    listed: &'a [config::FilterChain],
    default: Option<&'a config::FilterChain>,
    matcher: Option<&'a config::Matcher>,
}

/// The filter chains of the listener at `at`, the default one last.
fn filter_chains(
    chains: &Chains<'_>,
    at: &Path,
    listener: &Common<'_>,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<FilterChains> {
    let Chains { listed, default, matcher } = chains;
    let list_at = at.field("filter_chains");
    let mut compiled = Vec::with_capacity(listed.len() + 1);
    let mut criteria = Vec::with_capacity(listed.len());
    for (i, chain) in listed.iter().enumerate() {
        let at = list_at.index(i);
        criteria.push(self::criteria(chain, &at, problems));
        compiled.push(filter_chain(chain, &at, listener, context, registry, problems));
    }
    if let Some(chain) = default {
        let at = at.field("default_filter_chain");
        // Its criteria are not looked at, as in Envoy.
        let _unused = self::criteria(chain, &at, problems);
        compiled.push(filter_chain(chain, &at, listener, context, registry, problems));
    }
    if compiled.is_empty() {
        problems.missing(at, "no filter chains specified");
    }
    if let Some(matcher) = matcher {
        let tree = chain_tree(matcher, listed, context.runtime, at, problems);
        let chains: Option<Vec<_>> = compiled.into_iter().collect();
        let choice = Choice::Tree { tree: tree?, default: default.map(|_| listed.len()) };
        return Some(FilterChains::new(chains?, choice));
    }
    let tree = MatchTree::new(&criteria).map_err(|overlap| {
        // A matcher chooses between chains that need no criteria.
        if problems.is_read(&at.field("filter_chain_matcher")) {
            problems.push(overlapping(listed, overlap, &list_at));
        }
    });
    let choice = match criteria.as_slice() {
        [] => Choice::Only,
        [all] if *all == Criteria::default() && default.is_none() => Choice::Only,
        _ => Choice::Match { tree: tree.ok()?, default: default.map(|_| listed.len()) },
    };
    let chains: Option<Vec<_>> = compiled.into_iter().collect();
    Some(FilterChains::new(chains?, choice))
}

/// The tree of the listener at `at`, which names its chains.
fn chain_tree(
    schema: &config::Matcher,
    chains: &[config::FilterChain],
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Matcher<Option<usize>>> {
    let chains_at = at.field("filter_chains");
    let mut by_name = HashMap::new();
    for (i, chain) in chains.iter().enumerate() {
        let at = chains_at.index(i);
        if chain.name.is_empty() {
            problems.missing(&at, "a chain that a matcher chooses needs a name");
        } else if by_name.insert(chain.name.as_str(), i).is_some() {
            let why = format!("another filter chain is also named '{}'", chain.name);
            problems.error(&at.field("name"), why);
        }
        if chain.filter_chain_match.is_some() {
            let why = "no effect: the filter_chain_matcher of the listener chooses";
            problems.warn(&at.field("filter_chain_match"), why);
        }
    }
    let mut action = |action: &config::Any, at: &Path, problems: &mut Problems| {
        let config::Any::StringValue(name) = action else {
            let name = action.type_name();
            let why = format!(
                "the action of a tree of filter chains is the name of a chain, a \
                 google.protobuf.StringValue, not `{name}`"
            );
            problems.error(at, why);
            return None;
        };
        let config::StringValue(name) = &**name;
        let chain = by_name.get(name.as_str()).copied();
        if chain.is_none() {
            let why = format!("there is no filter chain '{name}': the connection will be closed");
            problems.warn(&at.field("value"), why);
        }
        Some(chain)
    };
    let context = matcher::compile::Context { looks_at: LooksAt::Connection, runtime };
    let at = at.field("filter_chain_matcher");
    matcher::compile::matcher(schema, &context, &mut action, &at, problems)
}

fn criteria(chain: &config::FilterChain, at: &Path, problems: &mut Problems) -> Criteria {
    let at = at.field("filter_chain_match");
    let wanted = chain.filter_chain_match.as_ref();
    wanted
        .map(|wanted| filter_chain_match::compile::criteria(wanted, &at, problems))
        .unwrap_or_default()
}

fn overlapping(chains: &[config::FilterChain], overlap: Overlap, at: &Path) -> Problem {
    let Overlap { chain, other } = overlap;
    let at_chain = |chain: usize| {
        let has_match = chains.get(chain).is_some_and(|chain| chain.filter_chain_match.is_some());
        let at = at.index(chain);
        if has_match { at.field("filter_chain_match") } else { at }
    };
    if chain == other {
        let why = "a value is repeated in this filter_chain_match";
        return Problem::new(Severity::Error, &at_chain(chain), why);
    }
    let why = "this filter chain matches connections that another one matches just as specifically";
    let problem = Problem::new(Severity::Error, &at_chain(chain), why);
    problem.related(&at_chain(other), "the other filter chain")
}
/// What a listener has in common with another one that may take its place and keep its connections.
//= envoy: ListenerMessageUtil::filterChainOnlyChange
pub(crate) fn without_chains(schema: &config::Listener) -> config::Listener {
    let mut frame = schema.clone();
    frame.filter_chains.clear();
    frame.default_filter_chain = None;
    frame.filter_chain_matcher = None;
    frame
}
