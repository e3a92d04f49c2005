//! Compiles `local_reply_config`.

use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{BodyFormat, Mapper, ReplyRewrite};
use crate::access_log::filter;
use crate::format::Format;
use crate::format::compile::{data_source, substitution};
use crate::request::route::HeaderMutations;
use crate::request::route::mutation;
use crate::runtime::Reader;

/// Compiles a `LocalReplyConfig`.
pub fn reply_rewrite(
    schema: &config::LocalReplyConfig,
    at: &Path,
    runtime: &Reader<'_>,
    problems: &mut Problems,
) -> ReplyRewrite {
    let config::LocalReplyConfig { mappers, body_format } = schema;
    let at_mappers = at.field("mappers");
    let each = mappers.iter().enumerate();
    ReplyRewrite {
        mappers: each
            .filter_map(|(i, m)| mapper(m, &at_mappers.index(i), runtime, problems))
            .collect(),
        format: body_format
            .as_ref()
            .and_then(|schema| format(schema, &at.field("body_format"), problems)),
    }
}

fn mapper(
    schema: &config::ResponseMapper,
    at: &Path,
    runtime: &Reader<'_>,
    problems: &mut Problems,
) -> Option<Mapper> {
    let config::ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } =
        schema;
    let filter = filter
        .as_ref()
        .and_then(|schema| filter::compile::filter(schema, &at.field("filter"), runtime, problems));
    let headers =
        mutation::compile::additions(headers_to_add, &at.field("headers_to_add"), problems);
    let body = body.as_ref().map(data_source).transpose();
    let body = body.map_err(|error| problems.error(&at.field("body"), error)).ok();
    let at_format = at.field("body_format_override");
    let format =
        body_format_override.as_ref().and_then(|schema| format(schema, &at_format, problems));
    Some(Mapper {
        filter: filter?,
        status: status_code.and_then(|status| u16::try_from(status).ok()),
        body: body?.map(Into::into),
        format,
        headers: HeaderMutations::new([Arc::new(headers)]),
    })
}

/// Compiles the format of a body, with its content type.
pub(crate) fn format(
    schema: &config::SubstitutionFormatString,
    at: &Path,
    problems: &mut Problems,
) -> Option<BodyFormat> {
    let text = substitution(schema, at, problems)?;
    let content_type = match (&*schema.content_type, &text) {
        ("", Format::Json(_)) => "application/json",
        ("", Format::Text(..)) => "text/plain",
        (content_type, _) => content_type,
    };
    Some(BodyFormat { content_type: content_type.as_bytes().into(), text })
}
