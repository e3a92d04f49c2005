//! Schema → how to compress and decompress.

use corvoy_config::{self as config, Path, Problems};
use zstd::zstd_safe::Strategy;

use super::brotli::Mode;
use super::{
    BrotliOptions, DecoderOptions, EncoderOptions, GzipOptions, ZstdDecoderOptions, ZstdOptions,
};
use crate::format::compile::data_source;

/// Compiles a `compressor_library`.
pub(crate) fn encoder(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<EncoderOptions> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    Some(match typed_config.as_ref()? {
        config::Any::GzipCompressor(schema) => EncoderOptions::Gzip(gzip(schema)),
        config::Any::BrotliCompressor(schema) => EncoderOptions::Brotli(brotli(schema)),
        config::Any::ZstdCompressor(schema) => EncoderOptions::Zstd(zstd(schema, &at, problems)?),
        other => {
            problems.error(&at, format!("`{}` is not a compressor library", other.type_name()));
            return None;
        }
    })
}

/// Compiles a `decompressor_library`.
pub(crate) fn decoder(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<DecoderOptions> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    Some(match typed_config.as_ref()? {
        config::Any::GzipDecompressor(schema) => {
            let config::GzipDecompressor { window_bits, max_inflate_ratio } = &**schema;
            DecoderOptions::Gzip {
                window_bits: small(window_bits.unwrap_or(15)),
                max_inflate_ratio: max_inflate_ratio.unwrap_or(100),
            }
        }
        config::Any::BrotliDecompressor(schema) => {
            let config::BrotliDecompressor {} = **schema;
            DecoderOptions::Brotli
        }
        config::Any::ZstdDecompressor(schema) => {
            let config::ZstdDecompressor { dictionaries } = &**schema;
            let at = at.field("dictionaries");
            let each = dictionaries.iter().enumerate();
            let dictionaries = each
                .filter_map(|(i, schema)| Some(dictionary(schema, &at.index(i), problems)?.into()));
            DecoderOptions::Zstd(ZstdDecoderOptions { dictionaries: dictionaries.collect() })
        }
        other => {
            problems.error(&at, format!("`{}` is not a decompressor library", other.type_name()));
            return None;
        }
    })
}

fn gzip(schema: &config::GzipCompressor) -> GzipOptions {
    use config::GzipCompressionLevel as Level;
    let config::GzipCompressor { compression_level, window_bits } = schema;
    GzipOptions {
        level: match compression_level {
            Level::Level1 => 1,
            Level::Level2 => 2,
            Level::Level3 => 3,
            Level::Level4 => 4,
            Level::Level5 => 5,
            Level::Default | Level::Level6 => 6,
            Level::Level7 => 7,
            Level::Level8 => 8,
            Level::Level9 => 9,
        },
        window_bits: small(window_bits.unwrap_or(12)),
    }
}

fn brotli(schema: &config::BrotliCompressor) -> BrotliOptions {
    use config::BrotliEncoderMode as Schema;
    let config::BrotliCompressor {
        quality,
        encoder_mode,
        window_bits,
        input_block_bits,
        disable_literal_context_modeling,
    } = schema;
    BrotliOptions {
        quality: small(quality.unwrap_or(3)),
        window_bits: small(window_bits.unwrap_or(18)),
        input_block_bits: small(input_block_bits.unwrap_or(24)),
        mode: match encoder_mode {
            Schema::Default | Schema::Generic => Mode::Generic,
            Schema::Text => Mode::Text,
            Schema::Font => Mode::Font,
        },
        literal_context_modeling: !disable_literal_context_modeling,
    }
}

fn zstd(
    schema: &config::ZstdCompressor,
    at: &Path,
    problems: &mut Problems,
) -> Option<ZstdOptions> {
    use config::ZstdStrategy as Schema;
    let config::ZstdCompressor { compression_level, enable_checksum, strategy, dictionary } =
        schema;
    let dictionary = match dictionary {
        Some(schema) => self::dictionary(schema, &at.field("dictionary"), problems)?,
        None => Vec::new(),
    };
    Some(ZstdOptions {
        level: i32::from(small(compression_level.unwrap_or(3).min(22))),
        checksum: *enable_checksum,
        strategy: match strategy {
            Schema::Default => None,
            Schema::Fast => Some(Strategy::ZSTD_fast),
            Schema::Dfast => Some(Strategy::ZSTD_dfast),
            Schema::Greedy => Some(Strategy::ZSTD_greedy),
            Schema::Lazy => Some(Strategy::ZSTD_lazy),
            Schema::Lazy2 => Some(Strategy::ZSTD_lazy2),
            Schema::Btlazy2 => Some(Strategy::ZSTD_btlazy2),
            Schema::Btopt => Some(Strategy::ZSTD_btopt),
            Schema::Btultra => Some(Strategy::ZSTD_btultra),
            Schema::Btultra2 => Some(Strategy::ZSTD_btultra2),
        },
        dictionary: dictionary.into(),
    })
}

fn dictionary(schema: &config::DataSource, at: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    data_source(schema).map_err(|error| problems.error(at, error)).ok()
}

/// A number that the rules of the configuration have checked.
fn small(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
