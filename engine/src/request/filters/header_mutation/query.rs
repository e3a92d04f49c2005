//! Changes to the query of a request.
//!
//! As in Envoy, a changed query is written anew: its parameters are sorted by name, those of one name stay
//! in their order.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::inputs;
use crate::format::{Formatter, StreamInfo, Unset};
use crate::http::RequestHead;
use crate::request::route::AppendAction;

/// RFC 3986 §2.3: what need not be encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One change to a query.
#[derive(Debug)]
pub(super) enum QueryMutation {
    Remove(Box<[u8]>),
    Add { key: Box<[u8]>, value: Formatter, action: AppendAction },
}

/// By the decoded name: name and value as they are written.
type Parameters = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

/// Makes the changes. `value` is scratch space.
pub(super) fn change(
    mutations: &[QueryMutation],
    request: &mut RequestHead,
    stream: &dyn StreamInfo,
    value: &mut Vec<u8>,
) {
    let Some(target) = request.path_and_query() else { return };
    let path_len = request.path().len();
    let mut parameters = parse(target.get(path_len..).unwrap_or_default());
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

fn parse(query: &[u8]) -> Parameters {
    let mut parameters = Parameters::new();
    let query = query.strip_prefix(b"?").unwrap_or(query);
    for part in query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let (key, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let written = (key.to_vec(), value.to_vec());
        parameters.entry(percent_decode(key).collect()).or_default().push(written);
    }
    parameters
}

/// Unlike Envoy, which writes what it has decoded, and so changes what the query says.
fn write(parameters: &Parameters, out: &mut Vec<u8>) {
    let mut separator = b'?';
    for (key, value) in parameters.values().flatten() {
        out.push(std::mem::replace(&mut separator, b'&'));
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
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
