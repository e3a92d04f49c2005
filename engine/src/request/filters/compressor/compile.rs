//! Schema → `compressor`.

use corvoy_config::{self as config, Path, Problems};

use super::{Compressor, ContentTypes, Direction, Etag, PerRoute, ResponseRules};
use crate::compression::compile::encoder;
use crate::head_matcher::compile::runtime_flag;
use crate::request::filters::compile::Context;
use crate::text_matcher::compile::text;

impl Compressor {
    pub(in super::super) fn compile(
        schema: &config::Compressor,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::Compressor {
            content_length,
            content_type,
            disable_on_etag_header,
            remove_accept_encoding_header,
            runtime_enabled,
            compressor_library,
            request_direction_config,
            response_direction_config,
            choose_first,
        } = schema;
        let at_library = at.field("compressor_library");
        let library_schema = compressor_library.as_ref()?;
        let library = encoder(library_schema, &at_library, problems)?;
        let coding = library.coding().stats_name();
        let prefix = format!("{}compressor.{}.{coding}.", context.stat_prefix, library_schema.name);
        let mut direction =
            |schema: Option<&config::CompressorCommonDirection>, of: &str, at: &Path| {
                direction(schema, context, &format!("{prefix}{of}"), at, problems)
            };
        let request = request_direction_config.as_ref();
        let request_common =
            request.and_then(|config::CompressorRequestDirection { common_config }| {
                common_config.as_ref()
            });
        let at_request = at.field("request_direction_config").field("common_config");
        let mut of_request = direction(request_common, "request.", &at_request);
        if request.is_none() {
            of_request.enabled = false.into();
        }
        let (of_response, rules) = match response_direction_config {
            Some(schema) => {
                let (common, rules) = response_rules(schema);
                let at = at.field("response_direction_config").field("common_config");
                (direction(common, "response.", &at), rules)
            }
            None => {
                let common = config::CompressorCommonDirection {
                    enabled: runtime_enabled.clone(),
                    min_content_length: *content_length,
                    content_type: content_type.clone(),
                    content_type_matcher: Vec::new(),
                };
                let rules = ResponseRules {
                    etag: etag(*disable_on_etag_header, false),
                    remove_accept_encoding: *remove_accept_encoding_header,
                    uncompressible: [].into(),
                    tells_status: false,
                };
                (direction(Some(&common), "", at), rules)
            }
        };
        Some(Self {
            library,
            choose_first: *choose_first,
            request: of_request,
            response: of_response,
            of_response: rules,
            accept_stats: context.registry.scope(&prefix),
        })
    }
}

fn response_rules(
    schema: &config::CompressorResponseDirection,
) -> (Option<&config::CompressorCommonDirection>, ResponseRules) {
    let config::CompressorResponseDirection {
        common_config,
        disable_on_etag_header,
        weaken_etag_on_compress,
        remove_accept_encoding_header,
        uncompressible_response_codes,
        status_header_enabled,
    } = schema;
    let rules = ResponseRules {
        etag: etag(*disable_on_etag_header, *weaken_etag_on_compress),
        remove_accept_encoding: *remove_accept_encoding_header,
        uncompressible: uncompressible_response_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
        tells_status: *status_header_enabled,
    };
    (common_config.as_ref(), rules)
}

fn etag(disable: bool, weaken: bool) -> Etag {
    match (weaken, disable) {
        (true, _) => Etag::Weakened,
        (false, true) => Etag::Prevents,
        (false, false) => Etag::Removed,
    }
}

fn direction(
    schema: Option<&config::CompressorCommonDirection>,
    context: &Context<'_>,
    stats_prefix: &str,
    at: &Path,
    problems: &mut Problems,
) -> Direction {
    let default = config::CompressorCommonDirection::default();
    let config::CompressorCommonDirection {
        enabled,
        min_content_length,
        content_type,
        content_type_matcher,
    } = schema.unwrap_or(&default);
    let content_types = if content_type_matcher.is_empty() {
        let listed: Vec<&str> = content_type.iter().map(String::as_str).collect();
        let listed = if listed.is_empty() { DEFAULT_TYPES } else { &listed };
        ContentTypes::Listed(listed.iter().map(|it| it.as_bytes().into()).collect())
    } else {
        let at = at.field("content_type_matcher");
        let each = content_type_matcher.iter().enumerate();
        ContentTypes::Matched(
            each.filter_map(|(i, schema)| text(schema, &at.index(i), problems)).collect(),
        )
    };
    Direction {
        enabled: runtime_flag(enabled.as_ref(), true, context.runtime),
        content_types,
        //= envoy: 0 is the default, too.
        length_min: min_content_length.filter(|length| *length > 0).unwrap_or(30).into(),
        stats: context.registry.scope(stats_prefix),
    }
}

pub(in super::super) fn per_route(
    schema: &config::CompressorPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> PerRoute {
    let config::CompressorPerRoute { disabled, overrides } = schema;
    let Some(config::CompressorOverrides { response_direction_config, compressor_library }) =
        overrides
    else {
        let enabled = (*disabled == Some(true)).then_some(false);
        return PerRoute { enabled, remove_accept_encoding: None, library: None };
    };
    let at = at.field("overrides").field("compressor_library");
    let library = compressor_library.as_ref();
    PerRoute {
        enabled: response_direction_config.as_ref().map(|_| true),
        remove_accept_encoding: response_direction_config.as_ref().and_then(
            |config::CompressorResponseOverrides { remove_accept_encoding_header }| {
                *remove_accept_encoding_header
            },
        ),
        library: library.and_then(|schema| encoder(schema, &at, problems)),
    }
}

//= envoy: the types that are compressed if none are listed.
const DEFAULT_TYPES: &[&str] = &[
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
];
