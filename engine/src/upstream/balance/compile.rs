//! Compiles `lb_policy`, its options and `load_balancing_policy` into a [`LbPolicy`] and the rules that it
//! adds to the distribution of traffic.

use std::sync::Arc;

use config::{Path, Problems};
use corvoy_config as config;

use super::table::{HashFunction, Maglev, Ring, TableKind, TableRule};
use super::{LbPolicy, LeastRequest, SelectionMethod, SlowStart};
use crate::shard::clock::millis;
use crate::upstream::host_set::zones::ZoneRules;
use crate::upstream::host_set::{Criteria, Fallback, Selector, SelectorFallback, SubsetRules};
use crate::upstream::override_host::{MetadataPath, OverrideHost, Source};

/// The fields of a cluster about load balancing.
pub(in crate::upstream) struct Schema<'a> {
    pub(in crate::upstream) lb_policy: config::LbPolicy,
    pub(in crate::upstream) policy: Option<&'a config::LoadBalancingPolicy>,
    pub(in crate::upstream) round_robin: Option<&'a config::RoundRobinLbConfig>,
    pub(in crate::upstream) least_request: Option<&'a config::LeastRequestLbConfig>,
    pub(in crate::upstream) ring_hash: Option<&'a config::RingHashLbConfig>,
    pub(in crate::upstream) maglev: Option<&'a config::MaglevLbConfig>,
    pub(in crate::upstream) subsets: Option<&'a config::LbSubsetConfig>,
    pub(in crate::upstream) common: Option<&'a config::CommonLbConfig>,
}

/// What the fields mean.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::upstream) struct Balancing {
    pub(in crate::upstream) policy: LbPolicy,
    /// Whether requests fail in panic.
    pub(in crate::upstream) fails_in_panic: bool,
    /// Whether localities get traffic by their weights.
    pub(in crate::upstream) weighs_localities: bool,
    /// How much traffic stays in the zone of the proxy.
    pub(in crate::upstream) zones: ZoneRules,
    /// The table that the policy picks from.
    pub(in crate::upstream) table: Option<TableRule>,
    /// Whether the type of the cluster comes with the load balancer.
    pub(in crate::upstream) is_provided: bool,
    /// How hosts are divided into subsets.
    pub(in crate::upstream) subsets: Option<Arc<SubsetRules>>,
    /// The hosts that requests name.
    pub(in crate::upstream) override_host: Option<OverrideHost>,
}

/// The slow start of either kind of configuration.
type SlowStartFields<'a> =
    (Option<std::time::Duration>, Option<&'a config::RuntimeDouble>, Option<&'a config::Percent>);

/// `use_hostname_for_hashing` and `hash_balance_factor` of either kind.
type Hashing = (bool, Option<u32>);

/// The load balancing of the cluster at `at`.
pub(in crate::upstream) fn balancing(
    schema: &Schema<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Balancing {
    let at_policy = at.field("load_balancing_policy");
    if let Some(policy) = schema.policy {
        //= envoy: Cluster.load_balancing_policy
        // It replaces `lb_policy` and the options beside it.
        if let Some(common) = schema.common {
            check_common(common, &at.field("common_lb_config"), problems);
        }
        if schema.subsets.is_some() {
            let message = "load_balancing_policy cannot be combined with lb_subset_config";
            problems.error(&at.field("lb_subset_config"), message);
        }
        return of_policies(policy, &at_policy, problems);
    }
    of_enum(schema, at, problems)
}

fn check_common(common: &config::CommonLbConfig, at: &Path, problems: &mut Problems) {
    let config::CommonLbConfig {
        healthy_panic_threshold: _,
        zone_aware_lb_config,
        locality_weighted_lb_config,
        consistent_hashing_lb_config,
        ignore_new_hosts_until_first_hc: _,
        close_connections_on_host_set_change: _,
        override_host_status: _,
    } = common;
    let message =
        "load_balancing_policy cannot be combined with this field: the policy has its own";
    if zone_aware_lb_config.is_some() {
        problems.error(&at.field("zone_aware_lb_config"), message);
    }
    if locality_weighted_lb_config.is_some() {
        problems.error(&at.field("locality_weighted_lb_config"), message);
    }
    if consistent_hashing_lb_config.is_some() {
        problems.error(&at.field("consistent_hashing_lb_config"), message);
    }
}

impl Balancing {
    /// Takes what all policies have in common; returns how hosts are hashed.
    fn apply(&mut self, common: &config::CommonLbConfig) -> (bool, Option<u32>) {
        let mut hashing = (false, None);
        let config::CommonLbConfig {
            healthy_panic_threshold: _,
            zone_aware_lb_config,
            locality_weighted_lb_config,
            consistent_hashing_lb_config,
            ignore_new_hosts_until_first_hc: _,
            close_connections_on_host_set_change: _,
            override_host_status: _,
        } = common;
        self.weighs_localities = locality_weighted_lb_config.is_some();
        if let Some(schema) = zone_aware_lb_config {
            let config::ClusterZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
            } = schema;
            self.fails_in_panic = *fail_traffic_on_panic;
            self.zones = zone_rules(routing_enabled.as_ref(), *min_cluster_size);
        }
        if let Some(schema) = consistent_hashing_lb_config {
            let config::ClusterConsistentHashingLbConfig {
                use_hostname_for_hashing,
                hash_balance_factor,
            } = schema;
            hashing = (*use_hostname_for_hashing, *hash_balance_factor);
        }
        hashing
    }
}

/// `lb_policy` with its options.
fn of_enum(schema: &Schema<'_>, at: &Path, problems: &mut Problems) -> Balancing {
    let at_subsets = at.field("lb_subset_config");
    let subsets = schema.subsets.and_then(|it| subsets(it, &at_subsets, problems));
    let mut balancing = Balancing { subsets: subsets.map(Arc::new), ..Balancing::default() };
    let hashing = schema.common.map_or_else(Default::default, |common| balancing.apply(common));
    match schema.lb_policy {
        config::LbPolicy::RoundRobin => {
            let fields = schema.round_robin.and_then(|options| {
                let config::RoundRobinLbConfig { slow_start_config } = options;
                slow_start_config.as_ref().map(cluster_slow_start)
            });
            let at = at.field("round_robin_lb_config").field("slow_start_config");
            balancing.policy =
                LbPolicy::RoundRobin(fields.and_then(|it| slow_start(it, &at, problems)));
        }
        config::LbPolicy::LeastRequest => {
            let at = at.field("least_request_lb_config");
            balancing.policy = least_request_of_cluster(schema.least_request, &at, problems);
        }
        config::LbPolicy::Random => balancing.policy = LbPolicy::Random,
        config::LbPolicy::RingHash => {
            let ring = schema.ring_hash.map_or((None, HashFunction::XxHash, None), |options| {
                let config::RingHashLbConfig {
                    minimum_ring_size,
                    hash_function,
                    maximum_ring_size,
                } = options;
                let function = match hash_function {
                    config::RingHashFunction::XxHash => HashFunction::XxHash,
                    config::RingHashFunction::MurmurHash2 => HashFunction::MurmurHash2,
                };
                (*minimum_ring_size, function, *maximum_ring_size)
            });
            let ring = self::ring(ring, &at.field("ring_hash_lb_config"), problems);
            balancing.use_table(TableKind::Ring(ring), hashing);
        }
        config::LbPolicy::Maglev => {
            let size = schema.maglev.and_then(|options| {
                let config::MaglevLbConfig { table_size } = options;
                *table_size
            });
            let maglev = maglev(size, &at.field("maglev_lb_config"), problems);
            balancing.use_table(TableKind::Maglev(maglev), hashing);
        }
        config::LbPolicy::ClusterProvided => {
            balancing.is_provided = true;
            if schema.subsets.is_some() {
                let message = "lb_policy CLUSTER_PROVIDED cannot be combined with lb_subset_config";
                problems.error(&at_subsets, message);
            }
        }
        config::LbPolicy::LoadBalancingPolicyConfig => problems.missing(
            &at.field("load_balancing_policy"),
            "lb_policy LOAD_BALANCING_POLICY_CONFIG needs a load_balancing_policy",
        ),
    }
    balancing
}

/// `load_balancing_policy`: the first policy that is known counts.
fn of_policies(
    schema: &config::LoadBalancingPolicy,
    at: &Path,
    problems: &mut Problems,
) -> Balancing {
    let config::LoadBalancingPolicy { policies } = schema;
    let at = at.field("policies");
    for (i, policy) in policies.iter().enumerate() {
        let config::LoadBalancingPolicyItem { typed_extension_config } = policy;
        let Some(config::TypedExtensionConfig { name: _, typed_config }) = typed_extension_config
        else {
            continue;
        };
        let at = at.index(i).field("typed_extension_config").field("typed_config");
        if let Some(balancing) = typed_config.as_ref().and_then(|it| of_type(it, &at, problems)) {
            return balancing;
        }
    }
    problems.missing(&at, "load_balancing_policy needs a policy that Corvoy supports");
    Balancing::default()
}

fn of_type(policy: &config::Any, at: &Path, problems: &mut Problems) -> Option<Balancing> {
    let mut balancing = Balancing::default();
    match policy {
        config::Any::RoundRobin(policy) => {
            let config::RoundRobin { slow_start_config, locality_lb_config } = &**policy;
            let fields = slow_start_config.as_ref().map(policy_slow_start);
            let at_slow_start = at.field("slow_start_config");
            let slow_start = fields.and_then(|it| slow_start(it, &at_slow_start, problems));
            balancing.policy = LbPolicy::RoundRobin(slow_start);
            balancing.use_localities(locality_lb_config.as_ref());
        }
        config::Any::LeastRequest(policy) => {
            balancing.policy = least_request_of_policy(policy, at, problems);
            balancing.use_localities(policy.locality_lb_config.as_ref());
        }
        config::Any::Random(policy) => {
            let config::Random { locality_lb_config } = &**policy;
            balancing.policy = LbPolicy::Random;
            balancing.use_localities(locality_lb_config.as_ref());
        }
        config::Any::RingHash(policy) => {
            balancing.use_ring(policy, at, problems);
        }
        config::Any::Maglev(policy) => {
            let config::Maglev {
                table_size,
                consistent_hashing_lb_config,
                locality_weighted_lb_config,
            } = &**policy;
            let maglev = maglev(*table_size, at, problems);
            let hashing = consistent_hashing_lb_config.as_ref().map_or((false, None), hashing);
            balancing.use_table(TableKind::Maglev(maglev), hashing);
            balancing.weighs_localities = locality_weighted_lb_config.is_some();
        }
        config::Any::ClusterProvided(policy) => {
            let config::ClusterProvided {} = **policy;
            balancing.is_provided = true;
        }
        config::Any::WrrLocality(policy) => {
            let config::WrrLocality { endpoint_picking_policy } = &**policy;
            let at = at.field("endpoint_picking_policy");
            balancing = of_policies(endpoint_picking_policy.as_ref()?, &at, problems);
            balancing.weighs_localities = true;
        }
        config::Any::OverrideHost(policy) => {
            let config::OverrideHost { override_host_sources, selected_host_key, fallback_policy } =
                &**policy;
            let at_fallback = at.field("fallback_policy");
            balancing = of_policies(fallback_policy.as_ref()?, &at_fallback, problems);
            let at = at.field("override_host_sources");
            balancing.override_host = Some(OverrideHost {
                sources: override_host_sources
                    .iter()
                    .enumerate()
                    .filter_map(|(i, schema)| override_source(schema, &at.index(i), problems))
                    .collect(),
                selected: selected_host_key.as_ref().map(metadata_path),
            });
        }
        other => {
            let name = other.type_name();
            problems.error(&at.field("@type"), format!("`{name}` is no load balancing policy"));
            // One error is enough.
        }
    }
    Some(balancing)
}

fn override_source(
    schema: &config::OverrideHostSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<Source> {
    let config::OverrideHostSource { header, metadata } = schema;
    match (header.as_str(), metadata) {
        ("", Some(key)) => Some(Source::Metadata(metadata_path(key))),
        (header, None) if !header.is_empty() => {
            Some(Source::Header(header.to_ascii_lowercase().into_bytes().into()))
        }
        _ => {
            problems.error(at, "a source of hosts is either a header or metadata");
            None
        }
    }
}

fn metadata_path(schema: &config::MetadataKey) -> MetadataPath {
    let config::MetadataKey { key, path } = schema;
    let segments = path.iter().map(|config::MetadataKeySegment { key }| key.as_deref());
    MetadataPath {
        namespace: key.as_str().into(),
        path: segments.map(|key| key.unwrap_or_default().into()).collect(),
    }
}

impl Balancing {
    fn use_localities(&mut self, schema: Option<&config::LocalityLbConfig>) {
        let Some(config::LocalityLbConfig { zone_aware_lb_config, locality_weighted_lb_config }) =
            schema
        else {
            return;
        };
        if let Some(schema) = zone_aware_lb_config {
            let config::ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
                force_locality_direct_routing,
                force_local_zone,
                locality_basis,
            } = schema;
            self.fails_in_panic = *fail_traffic_on_panic;
            let forced = force_local_zone.as_ref().map(|config::ForceLocalZone { min_size }| {
                min_size.map_or(1, |hosts| hosts as usize)
            });
            self.zones = ZoneRules {
                force_local_zone: forced.or_else(|| force_locality_direct_routing.then_some(1)),
                by_weight: *locality_basis == config::LocalityBasis::HealthyHostsWeight,
                ..zone_rules(routing_enabled.as_ref(), *min_cluster_size)
            };
        }
        self.weighs_localities = locality_weighted_lb_config.is_some();
    }

    fn use_ring(&mut self, policy: &config::RingHash, at: &Path, problems: &mut Problems) {
        let config::RingHash {
            hash_function,
            minimum_ring_size,
            maximum_ring_size,
            use_hostname_for_hashing,
            hash_balance_factor,
            consistent_hashing_lb_config,
            locality_weighted_lb_config,
        } = policy;
        let function = match hash_function {
            config::RingHashPolicyFunction::DefaultHash
            | config::RingHashPolicyFunction::XxHash => HashFunction::XxHash,
            config::RingHashPolicyFunction::MurmurHash2 => HashFunction::MurmurHash2,
        };
        let ring = ring((*minimum_ring_size, function, *maximum_ring_size), at, problems);
        let deprecated = (*use_hostname_for_hashing, *hash_balance_factor);
        let hashing = consistent_hashing_lb_config.as_ref().map_or(deprecated, hashing);
        self.use_table(TableKind::Ring(ring), hashing);
        self.weighs_localities = locality_weighted_lb_config.is_some();
    }

    fn use_table(&mut self, kind: TableKind, (uses_hostname, balance_factor): Hashing) {
        self.policy = LbPolicy::ConsistentHashing;
        self.table = Some(TableRule { kind, uses_hostname, balance_factor });
    }
}

/// Envoy's defaults.
impl Default for Balancing {
    fn default() -> Self {
        Self {
            policy: LbPolicy::RoundRobin(None),
            fails_in_panic: false,
            weighs_localities: false,
            zones: ZoneRules::default(),
            table: None,
            is_provided: false,
            subsets: None,
            override_host: None,
        }
    }
}

fn zone_rules(
    routing_enabled: Option<&config::Percent>,
    min_cluster_size: Option<u64>,
) -> ZoneRules {
    let default = ZoneRules::default();
    let size = min_cluster_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = |config::Percent { value }: &config::Percent| value.round() as u32;
    ZoneRules {
        routing_enabled: routing_enabled.map_or(default.routing_enabled, percent),
        min_cluster_size: size.unwrap_or(default.min_cluster_size),
        ..default
    }
}

const fn hashing(schema: &config::ConsistentHashingLbConfig) -> Hashing {
    let config::ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor } =
        schema;
    (*use_hostname_for_hashing, *hash_balance_factor)
}

fn least_request_of_cluster(
    schema: Option<&config::LeastRequestLbConfig>,
    at: &Path,
    problems: &mut Problems,
) -> LbPolicy {
    let Some(config::LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config }) =
        schema
    else {
        return LbPolicy::LeastRequest(LeastRequest::default());
    };
    let selection = SelectionMethod::Choices(choice_count.unwrap_or(2));
    let fields = slow_start_config.as_ref().map(cluster_slow_start);
    LbPolicy::LeastRequest(LeastRequest {
        selection,
        active_request_bias: bias(active_request_bias.as_ref(), at, problems),
        slow_start: fields.and_then(|it| slow_start(it, &at.field("slow_start_config"), problems)),
    })
}

fn least_request_of_policy(
    schema: &config::LeastRequest,
    at: &Path,
    problems: &mut Problems,
) -> LbPolicy {
    let config::LeastRequest {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config: _,
        enable_full_scan,
        selection_method,
    } = schema;
    let scans =
        *enable_full_scan == Some(true) || *selection_method == config::SelectionMethod::FullScan;
    let choices = SelectionMethod::Choices(choice_count.unwrap_or(2));
    let fields = slow_start_config.as_ref().map(policy_slow_start);
    LbPolicy::LeastRequest(LeastRequest {
        selection: if scans { SelectionMethod::FullScan } else { choices },
        active_request_bias: bias(active_request_bias.as_ref(), at, problems),
        slow_start: fields.and_then(|it| slow_start(it, &at.field("slow_start_config"), problems)),
    })
}

fn bias(schema: Option<&config::RuntimeDouble>, at: &Path, problems: &mut Problems) -> f64 {
    let Some(config::RuntimeDouble { default_value }) = schema else { return 1.0 };
    if *default_value >= 0.0 {
        return *default_value;
    }
    let at = at.field("active_request_bias");
    problems.warn(&at, "active_request_bias is negative: 1.0 is used instead, as in Envoy");
    1.0
}

const fn cluster_slow_start(schema: &config::SlowStartConfig) -> SlowStartFields<'_> {
    let config::SlowStartConfig { slow_start_window, aggression, min_weight_percent } = schema;
    (*slow_start_window, aggression.as_ref(), min_weight_percent.as_ref())
}

const fn policy_slow_start(schema: &config::PolicySlowStartConfig) -> SlowStartFields<'_> {
    let config::PolicySlowStartConfig { slow_start_window, aggression, min_weight_percent } =
        schema;
    (*slow_start_window, aggression.as_ref(), min_weight_percent.as_ref())
}

/// None without a window: there is no slow start.
fn slow_start(
    (window, aggression, min_weight_percent): SlowStartFields<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<SlowStart> {
    let window_ms = millis(window.unwrap_or_default());
    let mut power = 1.0;
    if let Some(config::RuntimeDouble { default_value }) = aggression {
        if *default_value > 0.0 {
            power = *default_value;
        } else {
            let at = at.field("aggression");
            problems.warn(&at, "aggression is not above 0: 1.0 is used instead, as in Envoy");
        }
    }
    let percent = min_weight_percent.map_or(10.0, |percent| {
        let config::Percent { value } = percent;
        *value
    });
    (window_ms > 0).then_some(SlowStart {
        window_ms,
        aggression: power,
        weight_min: percent / 100.0,
    })
}

/// None without selectors: then there are no subsets.
fn subsets(
    schema: &config::LbSubsetConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<SubsetRules> {
    let config::LbSubsetConfig {
        fallback_policy,
        default_subset,
        subset_selectors,
        panic_mode_any,
        list_as_any,
    } = schema;
    let at = at.field("subset_selectors");
    let selectors = subset_selectors.iter().enumerate();
    let selectors = selectors.map(|(i, it)| selector(it, &at.index(i), problems));
    let selectors: Vec<Selector> = selectors.collect();
    let fields = default_subset.as_ref().and_then(serde_json::Value::as_object);
    let pairs = fields.into_iter().flatten();
    (!selectors.is_empty()).then(|| SubsetRules {
        fallback: match fallback_policy {
            config::LbSubsetFallbackPolicy::NoFallback => Fallback::None,
            config::LbSubsetFallbackPolicy::AnyEndpoint => Fallback::AnyEndpoint,
            config::LbSubsetFallbackPolicy::DefaultSubset => Fallback::DefaultSubset,
        },
        default_subset: Criteria::new(pairs.map(|(key, value)| (key.clone(), value.clone()))),
        selectors,
        list_as_any: *list_as_any,
        panic_mode_any: *panic_mode_any,
    })
}

fn selector(schema: &config::LbSubsetSelector, at: &Path, problems: &mut Problems) -> Selector {
    use config::LbSubsetSelectorFallbackPolicy as Policy;
    let config::LbSubsetSelector { keys, fallback_policy, fallback_keys_subset } = schema;
    let mut keys = keys.clone();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        problems.missing(at, "a selector needs keys");
    }
    let fallback = match fallback_policy {
        Policy::NotDefined => None,
        Policy::NoFallback => Some(SelectorFallback::As(Fallback::None)),
        Policy::AnyEndpoint => Some(SelectorFallback::As(Fallback::AnyEndpoint)),
        Policy::DefaultSubset => Some(SelectorFallback::As(Fallback::DefaultSubset)),
        Policy::KeysSubset => Some(SelectorFallback::Keys(fallback_keys_subset.clone())),
    };
    let at = at.field("fallback_keys_subset");
    let is_by_keys = *fallback_policy == Policy::KeysSubset;
    if is_by_keys && fallback_keys_subset.is_empty() {
        problems.missing(&at, "KEYS_SUBSET needs fallback_keys_subset");
    } else if !is_by_keys && !fallback_keys_subset.is_empty() {
        problems.error(&at, "fallback_keys_subset is for KEYS_SUBSET only");
    } else if is_by_keys
        && (fallback_keys_subset.len() >= keys.len()
            || fallback_keys_subset.iter().any(|key| !keys.contains(key)))
    {
        problems.error(&at, "fallback_keys_subset must be some of the keys, not all of them");
    }
    Selector { keys, fallback }
}

fn ring(
    (size_min, hash_function, size_max): (Option<u64>, HashFunction, Option<u64>),
    at: &Path,
    problems: &mut Problems,
) -> Ring {
    let (size_min, size_max) = (size_min.unwrap_or(1024), size_max.unwrap_or(8 * 1024 * 1024));
    if size_min > size_max {
        let message =
            format!("minimum_ring_size ({size_min}) is above maximum_ring_size ({size_max})");
        problems.error(at, message);
    }
    Ring { size_min, size_max, hash_function }
}

fn maglev(size: Option<u64>, at: &Path, problems: &mut Problems) -> Maglev {
    let size = size.unwrap_or(65_537);
    let is_prime = |number: u64| {
        number > 1 && (2..).take_while(|it| it * it <= number).all(|it| !number.is_multiple_of(it))
    };
    if !is_prime(size) {
        problems.error(&at.field("table_size"), "the table_size of Maglev must be a prime number");
    }
    Maglev { size }
}
