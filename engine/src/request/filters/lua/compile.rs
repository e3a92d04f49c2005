//! Schema → the filter.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::vm::Vm;
use super::{Lua, PerRoute, RouteSource, Script};
use crate::format::compile::data_source;
use crate::request::filters::FilterId;
use crate::request::filters::compile::Context;

impl Lua {
    pub(in crate::request::filters) fn compile(
        schema: &config::Lua,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::Lua {
            inline_code,
            source_codes,
            default_source_code,
            stat_prefix,
            clear_route_cache,
            filter_context,
        } = schema;
        // It may make calls.
        context.calls.are_made.set(true);
        let default = match (default_source_code, inline_code.is_empty()) {
            (Some(_), false) => {
                let message = "it contradicts default_source_code";
                problems.error(&at.field("inline_code"), message);
                return None;
            }
            (Some(source), true) => {
                Some(script(source, &at.field("default_source_code"), problems)?)
            }
            (None, false) => {
                Some(script_of(inline_code.clone(), &at.field("inline_code"), problems)?)
            }
            (None, true) => None,
        };
        let at_codes = at.field("source_codes");
        let scripts = source_codes.iter().filter_map(|(name, source)| {
            Some((name.clone(), script(source, &at_codes.key(name), problems)?))
        });
        let scripts = scripts.collect();
        let dot = if stat_prefix.is_empty() { "" } else { "." };
        let prefix = format!("{}lua.{stat_prefix}{dot}", context.stat_prefix);
        Some(Self {
            default,
            scripts,
            clear_route_cache: clear_route_cache.unwrap_or(true),
            context: Arc::new(filter_context.clone().unwrap_or_default()),
            stats: context.registry.scope(&prefix),
        })
    }
}

/// What a route says.
pub(in crate::request::filters) fn of_route(
    schema: &config::LuaPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::LuaPerRoute { disabled, name, source_code, filter_context } = schema;
    let source = match (disabled, name, source_code) {
        (Some(_), ..) => RouteSource::Disabled,
        (None, Some(name), _) => RouteSource::Named(name.clone()),
        (None, None, Some(source)) => {
            RouteSource::Own(script(source, &at.field("source_code"), problems)?)
        }
        (None, None, None) => RouteSource::Inherited,
    };
    let context = filter_context.clone().map(Arc::new);
    Some(PerRoute { source, context })
}

fn script(source: &config::DataSource, at: &Path, problems: &mut Problems) -> Option<Arc<Script>> {
    let code = data_source(source).and_then(|code| {
        String::from_utf8(code).map_err(|_| "a script is text in UTF-8".to_owned())
    });
    match code {
        Ok(code) => script_of(code, at, problems),
        Err(message) => {
            problems.error(at, message);
            None
        }
    }
}

/// As in Envoy, a script that cannot be loaded is an error of the configuration.
fn script_of(code: String, at: &Path, problems: &mut Problems) -> Option<Arc<Script>> {
    match Vm::load(&code) {
        Ok(_) => Some(Arc::new(Script { id: FilterId::next(), code: code.into() })),
        Err(error) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            problems.error(at, format!("the script cannot be loaded: {first}"));
            None
        }
    }
}
