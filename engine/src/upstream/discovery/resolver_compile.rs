//! Compiles `typed_dns_resolver_config`.

use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use super::OwnResolver;
use crate::address;

/// The resolver that a message at `at` has for itself; none: that of the process.
pub(in crate::upstream) fn own(
    schema: Option<&config::TypedExtensionConfig>,
    at: &Path,
    problems: &mut Problems,
) -> Option<OwnResolver> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema?;
    let at = at.field("typed_dns_resolver_config").field("typed_config");
    match typed_config.as_ref()? {
        config::Any::CaresDnsResolver(schema) => Some(cares(schema, &at, problems)),
        config::Any::GetAddrInfoDnsResolver(schema) => {
            // It asks as the system is configured, which the resolver of the process does.
            let config::GetAddrInfoDnsResolver {} = **schema;
            None
        }
        other => {
            let message = format!("`{}` is not a DNS resolver", other.type_name());
            problems.error(&at.field("@type"), message);
            None
        }
    }
}

fn cares(schema: &config::CaresDnsResolver, at: &Path, problems: &mut Problems) -> OwnResolver {
    let config::CaresDnsResolver {
        resolvers,
        dns_resolver_options,
        query_timeout_seconds,
        query_tries,
        rotate_nameservers,
    } = schema;
    let at_resolvers = at.field("resolvers");
    let servers = resolvers.iter().enumerate().filter_map(|(i, schema)| {
        let at = at_resolvers.index(i);
        let config::Address { socket_address: Some(address), pipe: _ } = schema else {
            problems.error(&at, "a name server needs a socket_address");
            return None;
        };
        // Queries go over UDP or TCP, whatever is written here.
        let mut address = address.clone();
        address.protocol = config::Protocol::Tcp;
        address::compile::ip_and_port(&address, &at.field("socket_address"), problems)
    });
    let servers = servers.collect();
    let options = dns_resolver_options.as_ref();
    let default = OwnResolver::default();
    OwnResolver {
        servers,
        only_tcp: options.is_some_and(|it| it.use_tcp_for_dns_lookups),
        searches_domains: !options.is_some_and(|it| it.no_default_search_domain),
        timeout: query_timeout_seconds.map_or(default.timeout, Duration::from_secs),
        tries: query_tries.map_or(default.tries, |tries| tries as usize),
        rotates: *rotate_nameservers,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::upstream::compile::tests::{assignment, good, problem};
    use crate::upstream::discovery::Discovery;

    #[test]
    fn a_cluster_may_ask_name_servers_of_its_own() {
        let resolver = |kind: &str, options: serde_json::Value| {
            json!({
                "name": "a",
                "type": "STRICT_DNS",
                "load_assignment": assignment(&["b"]),
                "typed_dns_resolver_config": {
                    "name": "r",
                    "typed_config": {format!("envoy.extensions.network.dns_resolver.{kind}"): options},
                },
            })
        };
        let server = json!({"socket_address": {"address": "127.0.0.1", "port_value": 5353}});
        let cluster = good(resolver(
            "cares.v3.CaresDnsResolverConfig",
            json!({
                "resolvers": [server],
                "query_tries": 2,
                "dns_resolver_options": {"use_tcp_for_dns_lookups": true},
            }),
        ));
        let Discovery::Dns(dns) = &cluster.discovery else { panic!("not DNS") };
        let own = dns.resolver.as_ref().unwrap();
        assert_eq!(own.servers, [([127, 0, 0, 1], 5353).into()]);
        assert_eq!((own.only_tcp, own.searches_domains, own.tries), (true, true, 2));
        let system = good(resolver("getaddrinfo.v3.GetAddrInfoDnsResolverConfig", json!({})));
        let Discovery::Dns(dns) = &system.discovery else { panic!("not DNS") };
        assert_eq!(dns.resolver, None);
        let mut fixed = resolver("cares.v3.CaresDnsResolverConfig", json!({}));
        fixed["type"] = "STATIC".into();
        fixed["load_assignment"] = assignment(&["::1"]);
        assert_eq!(
            problem(fixed),
            "clusters[0]: the dns_* fields have no effect: this cluster type does not use them"
        );
    }
}
