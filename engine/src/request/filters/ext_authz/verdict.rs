//! What an authorization service says, whichever way it was asked, and how it changes messages.

use serde_json::Value;

use crate::http::{FieldName, Fields, JOINED_IN_REQUESTS, RequestHead, TOKEN};
use crate::request::query;

/// What the service says.
#[derive(Debug)]
pub(super) enum Verdict {
    Allow(Allowed),
    Deny(Denial),
    /// It has answered with something that cannot be sent.
    Invalid,
    /// It has not answered, or has failed; it may say what the client gets.
    Failed(Option<Denial>),
}

/// A request that may pass.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// In this order.
    pub(super) request: Vec<Change>,
    pub(super) response: Vec<Change>,
    pub(super) query: Vec<QueryChange>,
    pub(super) metadata: Vec<(String, Value)>,
}

/// A request that may not.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
    pub(super) metadata: Vec<(String, Value)>,
}

/// A change of the fields of a message; names are in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) enum Change {
    Set(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, Vec<u8>),
    /// Joined to the value of one that is there.
    Join(Vec<u8>, Vec<u8>),
    AddIfAbsent(Vec<u8>, Vec<u8>),
    SetIfPresent(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// A change of the query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum QueryChange {
    Set(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// Whether this can be sent as a field.
///
/// RFC 9110 §5.5: no CR, LF or NUL in a value.
pub(in super::super) fn is_field(name: &[u8], value: &[u8]) -> bool {
    let name = name.strip_prefix(b":").unwrap_or(name);
    !name.is_empty()
        && TOKEN.has_all(name)
        && !name.iter().any(u8::is_ascii_uppercase)
        && value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

impl Change {
    pub(in super::super) fn name(&self) -> &[u8] {
        match self {
            Self::Set(name, _)
            | Self::Add(name, _)
            | Self::Join(name, _)
            | Self::AddIfAbsent(name, _)
            | Self::SetIfPresent(name, _)
            | Self::Remove(name) => name,
        }
    }

    /// Whether it would change where the body ends, or what a connection is: that is for the codec to say.
    fn is_forbidden(&self) -> bool {
        let name = self.name();
        name.starts_with(b":")
            || matches!(
                FieldName::of(name),
                FieldName::ContentLength | FieldName::TransferEncoding | FieldName::Host
            )
    }

    pub(in super::super) fn apply(self, fields: &mut Fields) {
        if self.is_forbidden() {
            return;
        }
        match self {
            Self::Set(name, value) => set(fields, &name, &value),
            Self::Add(name, value) => add(fields, &name, &value),
            Self::Join(name, value) => join(fields, &name, &value),
            Self::AddIfAbsent(name, value) if fields.find(&name).is_none() => {
                fields.append_other(&name, &value);
            }
            Self::SetIfPresent(name, value) if fields.find(&name).is_some() => {
                set(fields, &name, &value);
            }
            Self::AddIfAbsent(..) | Self::SetIfPresent(..) => {}
            Self::Remove(name) => fields.remove_other(&name),
        }
    }
}

/// As in Envoy, the new one is appended.
fn set(fields: &mut Fields, name: &[u8], value: &[u8]) {
    fields.remove_other(name);
    fields.append_other(name, value);
}

/// As in Envoy, a known header is joined.
fn add(fields: &mut Fields, name: &[u8], value: &[u8]) {
    match FieldName::of(name) {
        id if JOINED_IN_REQUESTS.has(id) => fields.join(id, b",", value),
        _ => fields.append_other(name, value),
    }
}

fn join(fields: &mut Fields, name: &[u8], value: &[u8]) {
    let Some(first) = fields.find(name) else { return };
    let joined = [first, b",", value].concat();
    fields.set_other(name, &joined);
}

/// Changes the head of the request, its pseudo-headers included.
pub(in super::super) fn change_request(changes: Vec<Change>, head: &mut RequestHead) {
    for change in changes {
        match &change {
            Change::Set(name, value) if name == b":path" => head.set_target(value),
            Change::Set(name, value) if name == b":authority" || name == b"host" => {
                head.set_authority(value);
            }
            _ => change.apply(&mut head.fields),
        }
    }
}

/// Changes the query.
pub(super) fn change_query(changes: Vec<QueryChange>, head: &mut RequestHead) {
    if changes.is_empty() {
        return;
    }
    let Some(text) = query::query_of(head) else { return };
    let mut parameters = query::parse(text);
    for change in changes {
        match change {
            QueryChange::Set(key, value) => {
                let written = (query::escaped(&key), query::escaped(&value));
                parameters.insert(key, vec![written]);
            }
            QueryChange::Remove(key) => drop(parameters.remove(&key)),
        }
    }
    let mut target = head.path().to_vec();
    query::write(&parameters, &mut target);
    head.set_target(&target);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    /// A service must not be able to change where a message ends, or to add a line.
    #[test]
    fn what_frames_a_message_is_not_for_the_service_to_say() {
        let mut fields = Fields::default();
        fields.append(FieldName::ContentLength, b"3");
        for name in ["content-length", "transfer-encoding", ":method", "host"] {
            Change::Set(bytes(name), bytes("7")).apply(&mut fields);
            Change::Add(bytes(name), bytes("7")).apply(&mut fields);
            Change::Remove(bytes(name)).apply(&mut fields);
        }
        let left: Vec<_> = fields.iter().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(left, [(&b"content-length"[..], &b"3"[..])]);
        for (name, value) in
            [("a", "b\r\nc: d"), ("a\r\nb", ""), ("", "b"), ("a b", ""), ("A", ""), ("a", "\0")]
        {
            assert!(!is_field(name.as_bytes(), value.as_bytes()), "{name:?}: {value:?}");
        }
        assert!(is_field(b"x-a", b"b, c\td"));
    }

    #[test]
    fn changes_of_a_query_are_escaped() {
        let mut head = crate::request::route::tests::request("/p?a=1&b=%41", &[]);
        let changes = vec![
            QueryChange::Set(bytes("a"), bytes("x y&z")),
            QueryChange::Set(bytes("new"), bytes("1")),
            QueryChange::Remove(bytes("none")),
        ];
        change_query(changes, &mut head);
        assert_eq!(head.target(), b"/p?a=x%20y%26z&b=%41&new=1");
    }
}
