//! Schema → `set_filter_state`.

use corvoy_config::{self as config, Path, Problems};

use super::{SetFilterState, Value, Values};
use crate::filter_state::{Kind, Object};
use crate::format::compile::substitution;

impl SetFilterState {
    pub(in super::super) fn compile(
        schema: &config::HttpSetFilterState,
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let config::HttpSetFilterState { on_request_headers, clear_route_cache } = schema;
        Self {
            values: values(on_request_headers, at, problems),
            clear_route_cache: *clear_route_cache,
        }
    }
}

/// What a level of a route sets.
pub(in super::super) fn of_route(
    schema: &config::HttpSetFilterState,
    at: &Path,
    problems: &mut Problems,
) -> Values {
    let config::HttpSetFilterState { on_request_headers, clear_route_cache } = schema;
    if *clear_route_cache {
        problems
            .warn(&at.field("clear_route_cache"), "no effect here: only that of the filter counts");
    }
    values(on_request_headers, at, problems)
}

fn values(schemas: &[config::FilterStateValue], at: &Path, problems: &mut Problems) -> Values {
    let at = at.field("on_request_headers");
    let each = schemas.iter().enumerate();
    each.filter_map(|(i, schema)| value(schema, &at.index(i), problems)).collect()
}

fn value(schema: &config::FilterStateValue, at: &Path, problems: &mut Problems) -> Option<Value> {
    let config::FilterStateValue { object_key, factory_key, format_string, skip_if_empty } = schema;
    let key = object_key.as_ref()?;
    let (field, factory) = match factory_key.as_str() {
        "" => ("object_key", key.as_str()),
        factory => ("factory_key", factory),
    };
    let Some(kind) = Kind::made_by(factory) else {
        let what = format!("the filter state object {factory}");
        problems.not_implemented(&at.field(field), &what);
        return None;
    };
    let object = Object { key: key.as_str().into(), kind };
    let format = substitution(format_string.as_ref()?, &at.field("format_string"), problems)?;
    Some(Value { object, format, skip_if_empty: *skip_if_empty })
}
