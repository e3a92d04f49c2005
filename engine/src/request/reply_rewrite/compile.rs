//! Compiles `local_reply_config`.

use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{BodyFormat, Mapper, ReplyRewrite, Text};
use crate::format::compile::data_source;
use crate::format::{Formatter, JsonFormatter, Unset};
use crate::request::log_filter;
use crate::request::route::HeaderMutations;
use crate::request::route::mutation;

/// Compiles a `LocalReplyConfig`.
pub fn reply_rewrite(
    schema: &config::LocalReplyConfig,
    at: &Path,
    problems: &mut Problems,
) -> ReplyRewrite {
    let config::LocalReplyConfig { mappers, body_format } = schema;
    let at_mappers = at.field("mappers");
    let each = mappers.iter().enumerate();
    ReplyRewrite {
        mappers: each.filter_map(|(i, m)| mapper(m, &at_mappers.index(i), problems)).collect(),
        format: body_format
            .as_ref()
            .and_then(|schema| format(schema, &at.field("body_format"), problems)),
    }
}

fn mapper(schema: &config::ResponseMapper, at: &Path, problems: &mut Problems) -> Option<Mapper> {
    let config::ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } =
        schema;
    let filter = filter
        .as_ref()
        .and_then(|schema| log_filter::compile::filter(schema, &at.field("filter"), problems));
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

fn format(
    schema: &config::SubstitutionFormatString,
    at: &Path,
    problems: &mut Problems,
) -> Option<BodyFormat> {
    let config::SubstitutionFormatString {
        text_format,
        text_format_source,
        json_format,
        omit_empty_values,
        content_type,
    } = schema;
    let unset = if *omit_empty_values { Unset::Empty } else { Unset::Dash };
    let (text, default_type) = if let Some(json) = json_format {
        let json = JsonFormatter::new(json, *omit_empty_values);
        let json = json.map_err(|error| problems.error(&at.field("json_format"), error)).ok()?;
        (Text::Json(json), "application/json")
    } else {
        let (text, field) = match (text_format, text_format_source) {
            (Some(text), _) => (Ok(text.clone()), "text_format"),
            (None, Some(source)) => {
                let text = data_source(source).and_then(|bytes| {
                    String::from_utf8(bytes).map_err(|_| "the format is not valid UTF-8".to_owned())
                });
                (text, "text_format_source")
            }
            (None, None) => return None,
        };
        let text = text.and_then(|text| Formatter::new(&text));
        let text = text.map_err(|error| problems.error(&at.field(field), error)).ok()?;
        (Text::Plain(text, unset), "text/plain")
    };
    let content_type = if content_type.is_empty() { default_type } else { content_type };
    Some(BodyFormat { text, content_type: content_type.as_bytes().into() })
}
