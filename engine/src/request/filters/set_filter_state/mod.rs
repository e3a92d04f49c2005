//! `set_filter_state`: sets objects of the filter state from format strings.

pub(super) mod compile;

use super::{Context, Flow, RouteConfig};
use crate::filter_state::Object;
use crate::format::{Format, Inputs};

/// The filter.
#[derive(Debug)]
pub struct SetFilterState {
    values: Values,
    /// Whether the route is looked up again afterwards.
    clear_route_cache: bool,
}

/// What the filter, or a level of a route, sets.
pub type Values = Box<[Value]>;

/// An object and the text that it is set from.
#[derive(Debug)]
pub struct Value {
    object: Object,
    format: Format,
    skip_if_empty: bool,
}

impl SetFilterState {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        set(&self.values, cx);
        // As in Envoy every level adds to those before it, the most specific one last.
        for config in cx.configs.iter().rev() {
            if let RouteConfig::SetFilterState(values) = &**config {
                set(values, cx);
            }
        }
        if self.clear_route_cache {
            cx.clear_route_cache();
        }
        Flow::Continue
    }
}

fn set(values: &[Value], cx: &mut Context<'_, '_>) {
    let mut text = Vec::new();
    for Value { object, format, skip_if_empty } in values {
        text.clear();
        {
            let stream = cx.stream();
            let request = Some(&cx.core.heads.request);
            format.write(&Inputs { request, ..Inputs::new(&stream) }, &mut text);
        }
        if !(text.is_empty() && *skip_if_empty) {
            cx.core.note().state.set(object, &String::from_utf8_lossy(&text));
        }
    }
}
