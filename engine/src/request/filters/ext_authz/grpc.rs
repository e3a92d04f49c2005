//! The answer of a gRPC service.

use prost::Message;
use prost_types::Struct;

use super::proto::{
    AppendAction, CheckResponse, DeniedHttpResponse, HeaderValueOption, HttpResponse,
    OkHttpResponse,
};
use super::verdict::{Allowed, Change, Denial, QueryChange, Verdict, is_field};
use crate::http::Fields;
use crate::request::callout::{CallFailed, Response, grpc, json};

/// Reads the answer.
pub(super) fn read(answer: Result<Response, CallFailed>) -> Verdict {
    let Ok(message) = grpc::message(answer) else { return Verdict::Failed(None) };
    let Ok(response) = CheckResponse::decode(&*message) else { return Verdict::Failed(None) };
    let CheckResponse { status, http_response, dynamic_metadata } = response;
    // Without a status, its code is 0: OK.
    let is_ok = status.is_none_or(|status| status.code == 0);
    let verdict = match (is_ok, http_response) {
        (true, Some(HttpResponse::Ok(ok))) => allow(ok, dynamic_metadata),
        (true, _) => Some(Verdict::Allow(Allowed {
            metadata: dynamic_metadata.map(entries).unwrap_or_default(),
            ..Allowed::default()
        })),
        (false, Some(HttpResponse::Error(error))) => {
            // As in Envoy, without a status it is the configured one.
            let has_status = error.status.is_some();
            let denial = denial(error, dynamic_metadata);
            denial.map(|denial| Verdict::Failed(has_status.then_some(denial)))
        }
        (false, Some(HttpResponse::Denied(denied))) => {
            denial(denied, dynamic_metadata).map(Verdict::Deny)
        }
        (false, _) => denial(DeniedHttpResponse::default(), dynamic_metadata).map(Verdict::Deny),
    };
    verdict.unwrap_or(Verdict::Invalid)
}

fn allow(ok: OkHttpResponse, metadata: Option<Struct>) -> Option<Verdict> {
    let OkHttpResponse {
        headers,
        dynamic_metadata,
        headers_to_remove,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = ok;
    let mut allowed = Allowed::default();
    // As in Envoy, what is set comes before what is added.
    let mut added = Vec::new();
    for option in headers {
        match change(option, Added::Joined)? {
            set @ Change::Set(..) => allowed.request.push(set),
            other => added.push(other),
        }
    }
    allowed.request.append(&mut added);
    let removed = headers_to_remove.into_iter().map(|name| name.to_ascii_lowercase().into_bytes());
    allowed.request.extend(removed.map(Change::Remove));
    for option in response_headers_to_add {
        allowed.response.push(change(option, Added::Always)?);
    }
    let set = query_parameters_to_set.into_iter();
    allowed.query.extend(set.map(|parameter| {
        QueryChange::Set(parameter.key.into_bytes(), parameter.value.into_bytes())
    }));
    let removed = query_parameters_to_remove.into_iter().map(String::into_bytes);
    allowed.query.extend(removed.map(QueryChange::Remove));
    allowed.metadata = metadata.or(dynamic_metadata).map(entries).unwrap_or_default();
    Some(Verdict::Allow(allowed))
}

fn denial(denied: DeniedHttpResponse, metadata: Option<Struct>) -> Option<Denial> {
    let DeniedHttpResponse { status, headers, body } = denied;
    let status = status.map_or(0, |status| status.code);
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let mut fields = Fields::default();
    for option in headers {
        change(option, Added::Always)?.apply(&mut fields);
    }
    Some(Denial {
        status: status.unwrap_or(403),
        fields,
        body: body.into_bytes(),
        metadata: metadata.map(entries).unwrap_or_default(),
    })
}

/// What happens to a header that is to be appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Added {
    /// As in Envoy, it is joined to one that is there; without `append` it replaces that.
    Joined,
    /// It is added.
    Always,
}

/// None: it cannot be sent.
fn change(option: HeaderValueOption, added: Added) -> Option<Change> {
    let action = option.append_action();
    let HeaderValueOption { header, append, append_action: _ } = option;
    let header = header.unwrap_or_default();
    let name = header.key.to_ascii_lowercase().into_bytes();
    let value =
        if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
    if !is_field(&name, &value) {
        return None;
    }
    Some(match (append, action, added) {
        (Some(true), _, Added::Joined) => Change::Join(name, value),
        (Some(true), _, Added::Always) => Change::Add(name, value),
        (Some(false), ..) => Change::Set(name, value),
        (None, AppendAction::AppendIfExistsOrAdd, Added::Joined) => Change::Set(name, value),
        (None, AppendAction::AppendIfExistsOrAdd, Added::Always) => Change::Add(name, value),
        (None, AppendAction::AddIfAbsent, _) => Change::AddIfAbsent(name, value),
        (None, AppendAction::OverwriteIfExistsOrAdd, _) => Change::Set(name, value),
        (None, AppendAction::OverwriteIfExists, _) => Change::SetIfPresent(name, value),
    })
}

fn entries(metadata: Struct) -> Vec<(String, serde_json::Value)> {
    json::of_struct(metadata).into_iter().collect()
}
