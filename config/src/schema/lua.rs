//! The HTTP filter `lua`: `envoy/extensions/filters/http/lua/v3`.

use super::{BTreeMap, DataSource, schema};

schema! {
    const LUA;

    struct Lua = "envoy.extensions.filters.http.lua.v3.Lua" {
        inline_code: String,
        source_codes: BTreeMap<String, DataSource>,
        default_source_code: Option<DataSource>,
        stat_prefix: String,
        clear_route_cache: Option<bool>,
        filter_context: Option<serde_json::Value>,
    }

    struct LuaPerRoute = "envoy.extensions.filters.http.lua.v3.LuaPerRoute" {
        disabled: Option<bool>,
        name: Option<String>,
        source_code: Option<DataSource>,
        filter_context: Option<serde_json::Value>,
    }
}
