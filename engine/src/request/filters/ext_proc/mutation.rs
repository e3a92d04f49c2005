//! The changes of heads and trailers that a processor asks for.

use super::proto::HeaderMutation;
use crate::http::{FieldName, Fields, RequestHead};
use crate::request::filters::ext_authz::proto::HeaderValueOption;
use crate::request::filters::ext_authz::verdict::{Change, change_request, is_field};
use crate::request::filters::mutation_rules::MutationRules;

/// Why a message is not changed, and the exchange ends; the text is for the details.
pub(super) type Invalid = String;

/// The changes that are made.
#[derive(Debug, Default)]
pub(super) struct Changes {
    changes: Vec<Change>,
}

/// What a mutation may do besides what the rules allow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Scope {
    /// It may set the length of the body.
    pub(super) length: bool,
    /// It replaces the message, and may set the method.
    pub(super) replaces: bool,
}

impl Changes {
    /// Reads a mutation. As in Envoy, what is removed comes first.
    ///
    /// `rejected` counts what is not allowed.
    ///
    /// # Errors
    /// If something in it is invalid, or not allowed and that is an error.
    pub(super) fn read(
        mutation: HeaderMutation,
        rules: &MutationRules,
        scope: Scope,
        exists: impl Fn(&[u8]) -> bool,
        rejected: &mut u64,
    ) -> Result<Self, Invalid> {
        let HeaderMutation { set_headers, remove_headers } = mutation;
        let mut read = Self::default();
        for name in remove_headers {
            let name = name.to_ascii_lowercase().into_bytes();
            if !is_field(&name, b"") {
                *rejected += 1;
                return Err("header_mutation_remove_contains_invalid_character".to_owned());
            }
            read.add(Change::Remove(name), rules, scope, &exists, rejected)?;
        }
        for option in set_headers {
            if let Some(change) = set(option, rejected)? {
                read.add(change, rules, scope, &exists, rejected)?;
            }
        }
        Ok(read)
    }

    fn add(
        &mut self,
        change: Change,
        rules: &MutationRules,
        scope: Scope,
        exists: &impl Fn(&[u8]) -> bool,
        rejected: &mut u64,
    ) -> Result<(), Invalid> {
        let name = change.name();
        let is_length = name == b"content-length";
        let is_framing = (is_length && !scope.length) || name == b"transfer-encoding";
        if is_framing {
            return Ok(());
        }
        // There is only one of these.
        let is_single = name.starts_with(b":") || name == b"host";
        let is_appended = is_single && matches!(change, Change::Add(..)) && exists(name);
        let is_replaced_method = scope.replaces && name == b":method";
        let is_of_connection =
            !matches!(change, Change::Remove(_)) && OF_CONNECTION.contains(&name);
        let is_allowed = rules.allows(&change) && !is_appended && !is_of_connection;
        if is_replaced_method || is_allowed {
            self.changes.push(change);
            return Ok(());
        }
        *rejected += 1;
        if !rules.disallow_is_error {
            return Ok(());
        }
        Err(match change {
            Change::Remove(_) => "header_mutation_remove_headers_failed".to_owned(),
            _ => "header_mutation_set_headers_failed".to_owned(),
        })
    }

    /// Whether another method would be set that says something else of the bodies: the client, or the host,
    /// would not read the response as the proxy does.
    pub(super) fn change_framing(&self, head: &RequestHead) -> bool {
        let frames = |method: &[u8]| {
            let others: [&[u8]; 2] = [b"HEAD", b"CONNECT"];
            others.iter().position(|other| *other == method)
        };
        let now = frames(head.method_name());
        self.changes.iter().any(|change| match change {
            Change::Set(name, value) => name == b":method" && frames(value) != now,
            _ => false,
        })
    }

    /// Changes the head of a request.
    pub(super) fn change_request(self, head: &mut RequestHead) {
        for change in self.changes {
            match &change {
                Change::Set(name, value) if name == b":method" => head.set_method(value),
                _ if change.name() == b"content-length" => change_length(change, &mut head.fields),
                _ => change_request(vec![change], head),
            }
        }
    }

    /// Changes the fields of a response, or trailers. Returns the status, if it is set.
    pub(super) fn change_fields(self, fields: &mut Fields) -> Option<u16> {
        let mut status = None;
        for change in self.changes {
            match &change {
                Change::Set(name, value) if name == b":status" => {
                    let text = std::str::from_utf8(value).ok();
                    let number = text.and_then(|text| text.parse().ok());
                    status = number.filter(|number| (200..1000).contains(number)).or(status);
                }
                _ if change.name() == b"content-length" => change_length(change, fields),
                _ => change.apply(fields),
            }
        }
        status
    }
}

/// These say something of a connection, not of a message.
const OF_CONNECTION: [&[u8]; 6] =
    [b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"te", b"upgrade"];

/// Whether it can be the target in a request line.
fn is_path(value: &[u8]) -> bool {
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || !byte.is_ascii();
    matches!(value, [b'/', ..] | b"*") && value.iter().all(is_visible)
}

fn change_length(change: Change, fields: &mut Fields) {
    match change {
        Change::Remove(_) => fields.remove(FieldName::ContentLength),
        Change::Set(_, value) => fields.set(FieldName::ContentLength, &value),
        _ => {}
    }
}

/// None: there is no header in it.
fn set(option: HeaderValueOption, rejected: &mut u64) -> Result<Option<Change>, Invalid> {
    // As in Envoy, `append_action` does not count.
    let HeaderValueOption { header, append, append_action: _ } = option;
    let Some(header) = header else { return Ok(None) };
    if !header.value.is_empty() && !header.raw_value.is_empty() {
        *rejected += 1;
        let text = "Only one of value or raw_value in the HeaderValue message should be set.";
        return Err(text.to_owned());
    }
    let name = header.key.to_ascii_lowercase().into_bytes();
    // As in Envoy, `value` does not count.
    let value = header.raw_value;
    if !is_field(&name, &value) || (name == b":path" && !is_path(&value)) {
        *rejected += 1;
        return Err("header_mutation_set_contains_invalid_character".to_owned());
    }
    Ok(Some(match append {
        Some(true) => Change::Add(name, value),
        Some(false) | None => Change::Set(name, value),
    }))
}
