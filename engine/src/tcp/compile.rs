//! Schema → network filters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::Terminal;
use super::direct_response::DirectResponse;
use super::filter_state::Object;
use super::filters::Filter;
use super::filters::connection_limit::ConnectionLimit;
use super::filters::local_ratelimit::LocalRateLimit;
use super::filters::rbac::compile::rbac;
use super::filters::set_filter_state::{Empty, SetFilterState, Value};
use super::proxy::compile::tcp_proxy;
use crate::access_log;
use crate::format::compile::{data_source, extensions, text_of};
use crate::format::{Formatter, Unset};
use crate::head_matcher::compile::runtime_flag;
use crate::metadata::ListenerInfo;
use crate::stats::Registry;
use crate::token_bucket::{self, TokenBucket};

/// What network filters need from the rest of the configuration.
pub(crate) struct Context<'a> {
    /// Whether there is a cluster with this name.
    pub(crate) has_cluster: &'a dyn Fn(&str) -> bool,
    /// The listener and the filter chain.
    pub(crate) info: &'a Arc<ListenerInfo>,
    /// The token buckets that filters share.
    pub(crate) buckets: &'a SharedBuckets,
    pub(crate) registry: &'a Registry,
    /// What access logs need.
    pub(crate) access_logs: access_log::compile::Context<'a>,
}

/// The token buckets of the filters with a `share_key`; as in Envoy those with different rates do not
/// share.
#[derive(Debug, Default)]
pub struct SharedBuckets(RefCell<HashMap<(String, Rate), Arc<TokenBucket>>>);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Rate {
    max_tokens: u32,
    tokens_per_fill: u32,
    fill_interval: Duration,
}

/// A compiled network filter.
#[derive(Debug)]
pub(crate) enum NetworkFilter {
    /// A filter before the terminal one.
    Filter(Filter),
    /// The terminal filter of its chain.
    Terminal(Terminal),
}

/// Compiles a network filter other than the HTTP connection manager; `None` if it has errors.
pub(crate) fn network_filter(
    schema: &config::Any,
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<NetworkFilter> {
    use NetworkFilter::Terminal as Last;
    let filter = match schema {
        config::Any::TcpProxy(schema) => {
            let proxy = tcp_proxy(schema, at, context, problems)?;
            return Some(Last(Terminal::Proxy(Box::new(proxy))));
        }
        config::Any::Echo(schema) => {
            let config::Echo {} = **schema;
            return Some(Last(Terminal::Echo));
        }
        config::Any::NetworkDirectResponse(schema) => {
            let response = direct_response(schema, at, problems)?;
            return Some(Last(Terminal::DirectResponse(response)));
        }
        config::Any::ConnectionLimit(schema) => connection_limit(schema, context)?,
        config::Any::NetworkLocalRateLimit(schema) => {
            local_rate_limit(schema, at, context, problems)?
        }
        config::Any::NetworkRbac(schema) => {
            Filter::Rbac(Box::new(rbac(schema, at, context, problems)?))
        }
        config::Any::NetworkSetFilterState(schema) => {
            set_filter_state(schema, at, context, problems)?
        }
        config::Any::SniCluster(schema) => {
            let config::SniCluster {} = **schema;
            Filter::SniCluster
        }
        other => {
            problems.error(at, format!("{} is not a network filter", other.type_name()));
            return None;
        }
    };
    Some(NetworkFilter::Filter(filter))
}

fn direct_response(
    schema: &config::NetworkDirectResponse,
    at: &Path,
    problems: &mut Problems,
) -> Option<DirectResponse> {
    let config::NetworkDirectResponse { response } = schema;
    let text = response.as_ref().map_or(Ok(Vec::new()), data_source);
    let text = text.map_err(|error| problems.error(&at.field("response"), error)).ok()?;
    Some(DirectResponse(text.into()))
}

fn connection_limit(schema: &config::ConnectionLimit, context: &Context<'_>) -> Option<Filter> {
    let config::ConnectionLimit { stat_prefix, max_connections, delay, runtime_enabled } = schema;
    Some(Filter::ConnectionLimit(ConnectionLimit {
        most: (*max_connections)?,
        enabled: runtime_flag(runtime_enabled.as_ref(), true, context.access_logs.runtime),
        delay: delay.filter(|delay| !delay.is_zero()),
        active: Arc::default(),
        stats: context.registry.scope(&format!("connection_limit.{stat_prefix}.")),
    }))
}

fn local_rate_limit(
    schema: &config::NetworkLocalRateLimit,
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Filter> {
    let config::NetworkLocalRateLimit { stat_prefix, token_bucket, runtime_enabled, share_key } =
        schema;
    let config::TokenBucket { max_tokens, tokens_per_fill, fill_interval } =
        token_bucket.as_ref()?;
    let rate = Rate {
        max_tokens: *max_tokens,
        tokens_per_fill: tokens_per_fill.unwrap_or(1),
        fill_interval: (*fill_interval)?,
    };
    if rate.fill_interval < FILL_INTERVAL_MIN {
        let why = "a token bucket cannot be filled more often than every 50 ms";
        problems.error(&at.field("token_bucket").field("fill_interval"), why);
        return None;
    }
    Some(Filter::LocalRateLimit(LocalRateLimit {
        bucket: context.buckets.get(share_key, rate),
        enabled: runtime_flag(runtime_enabled.as_ref(), true, context.access_logs.runtime),
        stats: context.registry.scope(&format!("local_rate_limit.{stat_prefix}.")),
    }))
}

/// As in Envoy.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);

impl SharedBuckets {
    /// The bucket for a filter with this key; an empty one is not shared.
    fn get(&self, share_key: &str, rate: Rate) -> Arc<TokenBucket> {
        let Rate { max_tokens, tokens_per_fill, fill_interval } = rate;
        let rate_of_bucket = token_bucket::Rate::new(max_tokens, tokens_per_fill, fill_interval);
        let new = || Arc::new(TokenBucket::new(rate_of_bucket));
        if share_key.is_empty() {
            return new();
        }
        let mut shared = self.0.borrow_mut();
        Arc::clone(shared.entry((share_key.to_owned(), rate)).or_insert_with(new))
    }
}

fn set_filter_state(
    schema: &config::NetworkSetFilterState,
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Filter> {
    let config::NetworkSetFilterState { on_new_connection, on_downstream_data } = schema;
    let mut values = |schemas: &[config::FilterStateValue], field: &str| {
        let at = at.field(field);
        let each = schemas.iter().enumerate();
        let values: Vec<_> =
            each.map(|(i, schema)| filter_state_value(schema, &at.index(i), problems)).collect();
        values.into_iter().collect::<Option<Vec<_>>>()
    };
    let on_new_connection = values(on_new_connection, "on_new_connection");
    let on_data = values(on_downstream_data, "on_downstream_data");
    let state = SetFilterState {
        on_new_connection: on_new_connection?,
        on_data: on_data?,
        info: Arc::clone(context.info),
    };
    Some(Filter::SetFilterState(state))
}

fn filter_state_value(
    schema: &config::FilterStateValue,
    at: &Path,
    problems: &mut Problems,
) -> Option<Value> {
    let config::FilterStateValue { object_key, factory_key, format_string, skip_if_empty } = schema;
    let key = object_key.as_ref()?;
    if !factory_key.is_empty() && factory_key != key {
        problems.not_implemented(&at.field("factory_key"), "filter state under a key of its own");
    }
    let object = Object::of(key);
    if object.is_none() {
        let what = format!("the filter state object {key}");
        problems.not_implemented(&at.field("object_key"), &what);
    }
    let at = at.field("format_string");
    let config::SubstitutionFormatString {
        text_format,
        text_format_source,
        json_format,
        omit_empty_values,
        content_type: _, // it has no effect on a text that is not sent
        formatters,
    } = format_string.as_ref()?;
    if json_format.is_some() {
        problems.not_implemented(&at.field("json_format"), "filter state from JSON");
        return None;
    }
    let (text, field) = text_of(text_format.as_deref(), text_format_source.as_ref())?;
    let extensions = extensions(formatters, &at.field("formatters"), problems);
    let format = text.and_then(|text| Formatter::with(&text, extensions));
    let format = format.map_err(|error| problems.error(&at.field(field), error)).ok()?;
    Some(Value {
        object: object?,
        format,
        unset: if *omit_empty_values { Unset::Empty } else { Unset::Dash },
        empty: if *skip_if_empty { Empty::Skip } else { Empty::Set },
    })
}
