//! Schema → `decompressor`.

use corvoy_config::{self as config, Path, Problems};

use super::{Decompressor, Direction, Trailers};
use crate::compression::compile::decoder;
use crate::head_matcher::compile::runtime_flag;
use crate::request::filters::compile::Context;

impl Decompressor {
    pub(in super::super) fn compile(
        schema: &config::Decompressor,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::Decompressor {
            decompressor_library,
            request_direction_config,
            response_direction_config,
        } = schema;
        let library_schema = decompressor_library.as_ref()?;
        let library = decoder(library_schema, &at.field("decompressor_library"), problems)?;
        let name = &library_schema.name;
        let coding = library.coding().stats_name();
        let prefix = format!("{}decompressor.{name}.{coding}.", context.stat_prefix);
        let (common, advertises) = match request_direction_config {
            Some(config::DecompressorRequestDirection {
                common_config,
                advertise_accept_encoding,
            }) => (common_config.as_ref(), advertise_accept_encoding.unwrap_or(true)),
            None => (None, true),
        };
        let of_response = response_direction_config.as_ref().and_then(
            |config::DecompressorResponseDirection { common_config }| common_config.as_ref(),
        );
        let trailer = |what: &str| {
            let name = format!("x-envoy-decompressor-{name}-{what}-bytes");
            name.to_ascii_lowercase().into_bytes().into()
        };
        Some(Self {
            library,
            request: direction(common, context, &format!("{prefix}request.")),
            response: direction(of_response, context, &format!("{prefix}response.")),
            advertises,
            trailers: Trailers {
                compressed: trailer("compressed"),
                uncompressed: trailer("uncompressed"),
            },
        })
    }
}

fn direction(
    schema: Option<&config::DecompressorCommonDirection>,
    context: &Context<'_>,
    stats_prefix: &str,
) -> Direction {
    let default = config::DecompressorCommonDirection::default();
    let config::DecompressorCommonDirection { enabled, ignore_no_transform_header } =
        schema.unwrap_or(&default);
    Direction {
        enabled: runtime_flag(enabled.as_ref(), true, context.runtime),
        ignores_no_transform: *ignore_no_transform_header,
        stats: context.registry.scope(stats_prefix),
    }
}
