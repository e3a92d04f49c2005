//! Compression: the filters `compressor` and `decompressor`, and their libraries.

use super::{
    DataSource, RuntimeFeatureFlag, StringMatcher, TypedExtensionConfig, schema, schema_enum,
};

schema! {
    const COMPRESSION;

    struct Compressor = "envoy.extensions.filters.http.compressor.v3.Compressor" {
        content_length: Option<u32>,
        content_type: Vec<String>,
        disable_on_etag_header: bool,
        remove_accept_encoding_header: bool,
        runtime_enabled: Option<RuntimeFeatureFlag>,
        compressor_library: Option<TypedExtensionConfig>,
        request_direction_config: Option<CompressorRequestDirection>,
        response_direction_config: Option<CompressorResponseDirection>,
        choose_first: bool,
    }

    struct CompressorCommonDirection =
        "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig" {
        enabled: Option<RuntimeFeatureFlag>,
        min_content_length: Option<u32>,
        content_type: Vec<String>,
        content_type_matcher: Vec<StringMatcher>,
    }

    struct CompressorRequestDirection =
        "envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig" {
        common_config: Option<CompressorCommonDirection>,
    }

    struct CompressorResponseDirection =
        "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig" {
        common_config: Option<CompressorCommonDirection>,
        disable_on_etag_header: bool,
        weaken_etag_on_compress: bool,
        remove_accept_encoding_header: bool,
        uncompressible_response_codes: Vec<u32>,
        status_header_enabled: bool,
    }

    struct CompressorPerRoute = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute" {
        disabled: Option<bool>,
        overrides: Option<CompressorOverrides>,
    }

    struct CompressorOverrides =
        "envoy.extensions.filters.http.compressor.v3.CompressorOverrides" {
        response_direction_config: Option<CompressorResponseOverrides>,
        compressor_library: Option<TypedExtensionConfig>,
    }

    struct CompressorResponseOverrides =
        "envoy.extensions.filters.http.compressor.v3.ResponseDirectionOverrides" {
        remove_accept_encoding_header: Option<bool>,
    }

    struct Decompressor = "envoy.extensions.filters.http.decompressor.v3.Decompressor" {
        decompressor_library: Option<TypedExtensionConfig>,
        request_direction_config: Option<DecompressorRequestDirection>,
        response_direction_config: Option<DecompressorResponseDirection>,
    }

    struct DecompressorCommonDirection =
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.CommonDirectionConfig" {
        enabled: Option<RuntimeFeatureFlag>,
        ignore_no_transform_header: bool,
    }

    struct DecompressorRequestDirection =
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.RequestDirectionConfig" {
        common_config: Option<DecompressorCommonDirection>,
        advertise_accept_encoding: Option<bool>,
    }

    struct DecompressorResponseDirection =
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.ResponseDirectionConfig" {
        common_config: Option<DecompressorCommonDirection>,
    }

    struct GzipCompressor = "envoy.extensions.compression.gzip.compressor.v3.Gzip" {
        compression_level: GzipCompressionLevel,
        window_bits: Option<u32>,
    } harmless {
        memory_level: "zlib-rs has one size for its tables: it changes memory and ratio only",
        compression_strategy: "zlib-rs chooses by level: it changes speed and ratio only",
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }

    struct GzipDecompressor = "envoy.extensions.compression.gzip.decompressor.v3.Gzip" {
        window_bits: Option<u32>,
        max_inflate_ratio: Option<u32>,
    } harmless {
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }

    struct BrotliCompressor = "envoy.extensions.compression.brotli.compressor.v3.Brotli" {
        quality: Option<u32>,
        encoder_mode: BrotliEncoderMode,
        window_bits: Option<u32>,
        input_block_bits: Option<u32>,
        disable_literal_context_modeling: bool,
    } harmless {
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }

    struct BrotliDecompressor = "envoy.extensions.compression.brotli.decompressor.v3.Brotli" {} harmless {
        disable_ring_buffer_reallocation: "how the library allocates memory",
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }

    struct ZstdCompressor = "envoy.extensions.compression.zstd.compressor.v3.Zstd" {
        compression_level: Option<u32>,
        enable_checksum: bool,
        strategy: ZstdStrategy,
        dictionary: Option<DataSource>,
    } harmless {
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }

    struct ZstdDecompressor = "envoy.extensions.compression.zstd.decompressor.v3.Zstd" {
        dictionaries: Vec<DataSource>,
    } harmless {
        chunk_size: "the output is sent as it comes, in blocks of the connection",
    }
}

schema_enum! {
    enum BrotliEncoderMode =
        "envoy.extensions.compression.brotli.compressor.v3.Brotli.EncoderMode" {
        Default, Generic, Text, Font,
    }

    enum ZstdStrategy = "envoy.extensions.compression.zstd.compressor.v3.Zstd.Strategy" {
        Default, Fast, Dfast, Greedy, Lazy, Lazy2, Btlazy2, Btopt, Btultra, Btultra2,
    }
}

/// Envoy's `envoy.extensions.compression.gzip.compressor.v3.Gzip.CompressionLevel`, which has two names for
/// some levels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum GzipCompressionLevel {
    #[default]
    #[serde(rename = "DEFAULT_COMPRESSION")]
    Default,
    #[serde(rename = "COMPRESSION_LEVEL_1", alias = "BEST_SPEED")]
    Level1,
    #[serde(rename = "COMPRESSION_LEVEL_2")]
    Level2,
    #[serde(rename = "COMPRESSION_LEVEL_3")]
    Level3,
    #[serde(rename = "COMPRESSION_LEVEL_4")]
    Level4,
    #[serde(rename = "COMPRESSION_LEVEL_5")]
    Level5,
    #[serde(rename = "COMPRESSION_LEVEL_6")]
    Level6,
    #[serde(rename = "COMPRESSION_LEVEL_7")]
    Level7,
    #[serde(rename = "COMPRESSION_LEVEL_8")]
    Level8,
    #[serde(rename = "COMPRESSION_LEVEL_9", alias = "BEST_COMPRESSION")]
    Level9,
}
