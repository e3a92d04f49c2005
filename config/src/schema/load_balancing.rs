//! How a host is picked: the fields of `envoy/config/cluster/v3` about it, and
//! `envoy/extensions/load_balancing_policies`.

use super::{Duration, HealthStatusSet, Percent, TypedExtensionConfig, schema, schema_enum};

schema! {
    const LOAD_BALANCING;

    struct RoundRobinLbConfig = "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig" {
        slow_start_config: Option<SlowStartConfig>,
    }

    struct LeastRequestLbConfig = "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig" {
        choice_count: Option<u32>,
        active_request_bias: Option<RuntimeDouble>,
        slow_start_config: Option<SlowStartConfig>,
    }

    struct RingHashLbConfig = "envoy.config.cluster.v3.Cluster.RingHashLbConfig" {
        minimum_ring_size: Option<u64>,
        hash_function: RingHashFunction,
        maximum_ring_size: Option<u64>,
    }

    struct MaglevLbConfig = "envoy.config.cluster.v3.Cluster.MaglevLbConfig" {
        table_size: Option<u64>,
    }

    struct SlowStartConfig = "envoy.config.cluster.v3.Cluster.SlowStartConfig" {
        slow_start_window: Option<Duration>,
        aggression: Option<RuntimeDouble>,
        min_weight_percent: Option<Percent>,
    }

    struct CommonLbConfig = "envoy.config.cluster.v3.Cluster.CommonLbConfig" {
        healthy_panic_threshold: Option<Percent>,
        zone_aware_lb_config: Option<ClusterZoneAwareLbConfig>,
        locality_weighted_lb_config: Option<ClusterLocalityWeightedLbConfig>,
        consistent_hashing_lb_config: Option<ClusterConsistentHashingLbConfig>,
        ignore_new_hosts_until_first_hc: bool,
        close_connections_on_host_set_change: bool,
        override_host_status: Option<HealthStatusSet>,
    } harmless {
        update_merge_window: "each change of hosts is applied immediately",
    }

    struct ClusterZoneAwareLbConfig =
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig" {
        routing_enabled: Option<Percent>,
        min_cluster_size: Option<u64>,
        fail_traffic_on_panic: bool,
    }

    struct ClusterLocalityWeightedLbConfig =
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig" {}

    struct ClusterConsistentHashingLbConfig =
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig" {
        use_hostname_for_hashing: bool,
        hash_balance_factor: Option<u32>,
    }

    struct LbSubsetConfig = "envoy.config.cluster.v3.Cluster.LbSubsetConfig" {
        fallback_policy: LbSubsetFallbackPolicy,
        default_subset: Option<serde_json::Value>,
        subset_selectors: Vec<LbSubsetSelector>,
        panic_mode_any: bool,
        list_as_any: bool,
    }

    struct LbSubsetSelector = "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector" {
        keys: Vec<String>,
        fallback_policy: LbSubsetSelectorFallbackPolicy,
        fallback_keys_subset: Vec<String>,
    }

    struct LoadBalancingPolicy = "envoy.config.cluster.v3.LoadBalancingPolicy" {
        policies: Vec<LoadBalancingPolicyItem>,
    }

    struct LoadBalancingPolicyItem = "envoy.config.cluster.v3.LoadBalancingPolicy.Policy" {
        typed_extension_config: Option<TypedExtensionConfig>,
    }

    struct RoundRobin = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" {
        slow_start_config: Option<PolicySlowStartConfig>,
        locality_lb_config: Option<LocalityLbConfig>,
    }

    struct LeastRequest = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" {
        choice_count: Option<u32>,
        active_request_bias: Option<RuntimeDouble>,
        slow_start_config: Option<PolicySlowStartConfig>,
        locality_lb_config: Option<LocalityLbConfig>,
        enable_full_scan: Option<bool>,
        selection_method: SelectionMethod,
    }

    struct Random = "envoy.extensions.load_balancing_policies.random.v3.Random" {
        locality_lb_config: Option<LocalityLbConfig>,
    }

    struct RingHash = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash" {
        hash_function: RingHashPolicyFunction,
        minimum_ring_size: Option<u64>,
        maximum_ring_size: Option<u64>,
        use_hostname_for_hashing: bool,
        hash_balance_factor: Option<u32>,
        consistent_hashing_lb_config: Option<ConsistentHashingLbConfig>,
        locality_weighted_lb_config: Option<LocalityWeightedLbConfig>,
    }

    struct Maglev = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev" {
        table_size: Option<u64>,
        consistent_hashing_lb_config: Option<ConsistentHashingLbConfig>,
        locality_weighted_lb_config: Option<LocalityWeightedLbConfig>,
    }

    struct WrrLocality = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality" {
        endpoint_picking_policy: Option<LoadBalancingPolicy>,
    }

    struct ClusterProvided =
        "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided" {}

    struct PolicySlowStartConfig =
        "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig" {
        slow_start_window: Option<Duration>,
        aggression: Option<RuntimeDouble>,
        min_weight_percent: Option<Percent>,
    }

    struct LocalityLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig" {
        zone_aware_lb_config: Option<ZoneAwareLbConfig>,
        locality_weighted_lb_config: Option<LocalityWeightedLbConfig>,
    }

    struct ZoneAwareLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig" {
        routing_enabled: Option<Percent>,
        min_cluster_size: Option<u64>,
        fail_traffic_on_panic: bool,
        force_locality_direct_routing: bool,
        force_local_zone: Option<ForceLocalZone>,
        locality_basis: LocalityBasis,
    }

    struct ForceLocalZone =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.ForceLocalZone" {
        min_size: Option<u32>,
    }

    struct LocalityWeightedLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig" {}

    struct ConsistentHashingLbConfig =
        "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig" {
        use_hostname_for_hashing: bool,
        hash_balance_factor: Option<u32>,
    }

    struct RuntimeDouble = "envoy.config.core.v3.RuntimeDouble" {
        default_value: f64,
    } harmless {
        runtime_key: "a runtime layer that sets it causes a warning; the default applies",
    }
}

schema_enum! {
    enum LocalityBasis =
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig.LocalityBasis" {
        HealthyHostsNum, HealthyHostsWeight,
    }

    enum LbSubsetFallbackPolicy =
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetFallbackPolicy" {
        NoFallback, AnyEndpoint, DefaultSubset,
    }

    enum LbSubsetSelectorFallbackPolicy =
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector.LbSubsetSelectorFallbackPolicy" {
        NotDefined, NoFallback, AnyEndpoint, DefaultSubset, KeysSubset,
    }

    enum LbPolicy = "envoy.config.cluster.v3.Cluster.LbPolicy" {
        RoundRobin, LeastRequest, RingHash, Random, Maglev, ClusterProvided,
        LoadBalancingPolicyConfig,
    }

    enum RingHashPolicyFunction =
        "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash.HashFunction" {
        DefaultHash, XxHash, #[serde(rename = "MURMUR_HASH_2")] MurmurHash2,
    }

    enum RingHashFunction = "envoy.config.cluster.v3.Cluster.RingHashLbConfig.HashFunction" {
        XxHash, #[serde(rename = "MURMUR_HASH_2")] MurmurHash2,
    }

    enum SelectionMethod =
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest.SelectionMethod" {
        NChoices, FullScan,
    }
}
