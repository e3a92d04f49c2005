//! Sessions that stay with a host: `stateful_session` and the policy `override_host`.

use super::{
    Duration, HealthStatus, LoadBalancingPolicy, MetadataKey, TypedExtensionConfig, schema,
};

schema! {
    const STATEFUL_SESSION;

    struct StatefulSession = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession" {
        session_state: Option<TypedExtensionConfig>,
        strict: bool,
        stat_prefix: String,
        status_on_strict_destination_not_found: u32,
    }

    struct StatefulSessionPerRoute =
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute" {
        disabled: Option<bool>,
        stateful_session: Option<StatefulSession>,
    }

    struct CookieBasedSessionState =
        "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState" {
        cookie: Option<Cookie>,
    }

    struct HeaderBasedSessionState =
        "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState" {
        name: String,
    }

    struct EnvelopeSessionState =
        "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState" {
        header: Option<EnvelopeSessionStateHeader>,
    }

    struct EnvelopeSessionStateHeader =
        "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState.Header" {
        name: String,
    }

    struct Cookie = "envoy.type.http.v3.Cookie" {
        name: String,
        ttl: Option<Duration>,
        path: String,
        attributes: Vec<CookieAttribute>,
    }

    struct CookieAttribute = "envoy.type.http.v3.CookieAttribute" {
        name: String,
        value: String,
    }

    struct OverrideHost =
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost" {
        override_host_sources: Vec<OverrideHostSource>,
        selected_host_key: Option<MetadataKey>,
        fallback_policy: Option<LoadBalancingPolicy>,
    }

    struct OverrideHostSource =
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.OverrideHostSource" {
        header: String,
        metadata: Option<MetadataKey>,
    }

    struct HealthStatusSet = "envoy.config.core.v3.HealthStatusSet" {
        statuses: Vec<HealthStatus>,
    }
}
