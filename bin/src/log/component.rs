//! Component names: Envoy's logger names, and the modules that log under each.

/// A component and its targets; the longest matching target wins.
const COMPONENTS: [(&str, &[&str]); 13] = [
    ("admin", &["admin", "corvoy_engine::control::admin"]),
    ("config", &["config", "corvoy_config"]),
    ("conn_handler", &["conn_handler", "corvoy_engine::downstream::listener"]),
    ("connection", &["connection", "corvoy_engine::downstream"]),
    ("dns", &["dns", "corvoy_engine::upstream::discovery", "hickory"]),
    ("filter", &["filter", "corvoy_engine::request::filters"]),
    ("http", &["http", "corvoy_engine::http1", "corvoy_engine::request"]),
    ("main", &["main", "corvoy"]),
    ("misc", &["misc", "origin"]),
    ("pool", &["pool", "corvoy_engine::upstream::pool", "corvoy_engine::upstream::connection"]),
    ("router", &["router", "corvoy_engine::request::route", "corvoy_engine::request::forward"]),
    ("stats", &["stats", "corvoy_engine::stats"]),
    ("upstream", &["upstream", "corvoy_engine::upstream"]),
];

/// Envoy's other loggers: their names are accepted, but nothing logs under them.
const SILENT: &str = "a2a ai_protocol_manager alternate_protocols_cache aws assert backtrace \
    basic_auth cache_filter client compression credential_injector decompression dubbo envoy_bug \
    ext_authz ext_proc rocketmq file forward_proxy geolocation grpc happy_eyeballs hc \
    health_checker http2 hystrix init io jwt json_rpc kafka key_value_store lua local_rate_limit \
    matcher mcp mongo multi_connection notification oauth2 quic quic_stream rate_limit_quota rbac \
    rds redis runtime secret sse tap testing thrift tracing udp wasm websocket golang stats_sinks \
    dynamic_modules ip_tagging";

/// The component that a `tracing` target belongs to.
pub(super) fn of_target(target: &str) -> &'static str {
    let matches = COMPONENTS.iter().flat_map(|(name, targets)| {
        let matching = targets.iter().filter(|prefix| target.starts_with(**prefix));
        matching.map(|prefix| (prefix.len(), *name))
    });
    matches.max_by_key(|(length, _)| *length).map_or("misc", |(_, name)| name)
}

/// The targets of a component; empty if nothing logs under that name.
pub(super) fn targets(component: &str) -> &'static [&'static str] {
    let found = COMPONENTS.iter().find(|(name, _)| *name == component);
    found.map_or(&[], |(_, targets)| targets)
}

/// The components that something logs under.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMPONENTS.iter().map(|(name, _)| *name)
}

/// Whether Envoy has a logger of that name.
pub(crate) fn is_component(name: &str) -> bool {
    names().chain(SILENT.split_whitespace()).any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_module_decides() {
        assert_eq!(of_target("corvoy_engine::upstream::pool"), "pool");
        assert_eq!(of_target("corvoy_engine::upstream::balance::round_robin"), "upstream");
        assert_eq!(of_target("corvoy_engine::shard"), "main");
        assert_eq!(of_target("main"), "main");
        assert_eq!(of_target("tokio::runtime"), "misc");
    }

    #[test]
    fn the_loggers_of_envoy_are_known() {
        assert!(is_component("quic") && is_component("upstream"));
        assert!(!is_component("unknown") && !is_component(""));
    }
}
