//! Schema → `custom_response`.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::{CustomResponse, Details, Policy, Tree};
use crate::format::compile::data_source;
use crate::matcher::compile::{self as matcher, LooksAt};
use crate::request::filters::compile::Context;
use crate::request::reply_rewrite;
use crate::request::route::HeaderMutations;
use crate::request::route::mutation;

impl CustomResponse {
    pub(in super::super) fn compile(
        schema: &config::CustomResponse,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        Some(Self(tree(schema, context, at, problems)?))
    }
}

/// Which response is replaced by what.
pub(in super::super) fn tree(
    schema: &config::CustomResponse,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Tree> {
    let config::CustomResponse { custom_response_matcher } = schema;
    let Some(schema) = custom_response_matcher else { return Some(Tree::default()) };
    let mut action = |options: &config::Any, at: &Path, problems: &mut Problems| match options {
        config::Any::LocalResponsePolicy(schema) => policy(schema, at, problems),
        other => {
            problems.error(at, format!("`{}` is no custom response", other.type_name()));
            None
        }
    };
    let inputs = matcher::Context { looks_at: LooksAt::Exchange, runtime: context.runtime };
    let at = at.field("custom_response_matcher");
    matcher::matcher(schema, &inputs, &mut action, &at, problems)
}

fn policy(
    schema: &config::LocalResponsePolicy,
    at: &Path,
    problems: &mut Problems,
) -> Option<Policy> {
    let config::LocalResponsePolicy {
        body,
        body_format,
        status_code,
        response_headers_to_add,
        preserve_response_code_details,
        response_code_details,
    } = schema;
    let body = body.as_ref().map(data_source).transpose();
    let body = body.map_err(|error| problems.error(&at.field("body"), error)).ok()?;
    let format = match body_format {
        Some(schema) => {
            let at = at.field("body_format");
            Some(reply_rewrite::compile::format(schema, &at, problems)?)
        }
        None => None,
    };
    let at_headers = at.field("response_headers_to_add");
    let headers = mutation::compile::additions(response_headers_to_add, &at_headers, problems);
    Some(Policy {
        status: status_code.and_then(|status| u16::try_from(status).ok()),
        body: body.unwrap_or_default().into(),
        format,
        headers: HeaderMutations::new([Arc::new(headers)]),
        details: match (preserve_response_code_details, response_code_details) {
            (Some(_), _) => Details::Preserved,
            (None, Some(details)) => Details::Fixed(details.as_str().into()),
            (None, None) => Details::None,
        },
    })
}
