//! Changes to the query of a request.
//!
//! As in Envoy, a changed query is written anew: its parameters are sorted by name, those of one name stay
//! in their order.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::inputs;
use crate::format::{Formatter, StreamInfo, Unset};
use crate::http::RequestHead;
use crate::request::query::{Parameters, parse, query_of, write};
use crate::request::route::AppendAction;

/// RFC 3986 §2.3: what need not be encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One change to a query.
#[derive(Debug)]
pub(super) enum QueryMutation {
    Remove(Box<[u8]>),
    Add { key: Box<[u8]>, value: Formatter, action: AppendAction },
}

/// Makes the changes. `value` is scratch space.
pub(super) fn change(
    mutations: &[QueryMutation],
    request: &mut RequestHead,
    stream: &dyn StreamInfo,
    value: &mut Vec<u8>,
) {
    let Some(query) = query_of(request) else { return };
    let mut parameters = parse(query);
    for mutation in mutations {
        match mutation {
            QueryMutation::Remove(key) => drop(parameters.remove(&**key)),
            QueryMutation::Add { key, value: format, action } => {
                value.clear();
                format.format(&inputs(request, stream), Unset::Empty, value);
                add(&mut parameters, key, value, *action);
            }
        }
    }
    value.clear();
    value.extend_from_slice(request.path());
    write(&parameters, value);
    request.set_target(value);
}

fn add(parameters: &mut Parameters, key: &[u8], value: &[u8], action: AppendAction) {
    let exists = parameters.contains_key(key);
    let written = || (encode(key), encode(value));
    match action {
        AppendAction::AddIfAbsent if exists => {}
        AppendAction::OverwriteIfExists if !exists => {}
        AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent => {
            parameters.entry(key.to_vec()).or_default().push(written());
        }
        AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => {
            parameters.insert(key.to_vec(), vec![written()]);
        }
    }
}

fn encode(text: &[u8]) -> Vec<u8> {
    percent_encode(text, ENCODED).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_query_is_sorted() {
        let mut parameters = parse(b"?b=2&%61=1&b=x%20y&flag");
        add(&mut parameters, b"a", b"new&more", AppendAction::OverwriteIfExists);
        add(&mut parameters, b"c", b"4", AppendAction::AppendIfExistsOrAdd);
        add(&mut parameters, b"d", b"5", AppendAction::OverwriteIfExists);
        add(&mut parameters, b"b", b"6", AppendAction::AddIfAbsent);
        let mut out = Vec::new();
        write(&parameters, &mut out);
        assert_eq!(out, b"?a=new%26more&b=2&b=x%20y&c=4&flag=");
    }
}
