//! Compressed bodies: gzip, brotli and zstd, piece by piece.
//!
//! It knows nothing of HTTP but the names of the codings, and does no I/O.
//!
//! Invariant: what a decoder puts out at once is bounded, whatever it is given.

mod brotli;
pub(crate) mod compile;
mod gzip;
#[cfg(test)]
mod tests;
mod zstd;

pub use self::brotli::Options as BrotliOptions;
pub use self::gzip::Options as GzipOptions;
pub use self::zstd::{DecoderOptions as ZstdDecoderOptions, Options as ZstdOptions};
use crate::limits;

/// A coding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// `br`
    Brotli,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

impl Coding {
    /// Its name in `content-encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Its name in stats.
    #[must_use]
    pub const fn stats_name(self) -> &'static str {
        match self {
            Self::Brotli => "brotli",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// How to compress.
#[derive(Clone, Debug)]
pub enum EncoderOptions {
    /// With brotli.
    Brotli(BrotliOptions),
    /// With gzip.
    Gzip(GzipOptions),
    /// With zstd.
    Zstd(ZstdOptions),
}

/// How to decompress.
#[derive(Clone, Debug)]
pub enum DecoderOptions {
    /// Brotli.
    Brotli,
    /// Gzip.
    Gzip {
        /// The largest window.
        window_bits: u8,
        /// How many times larger than the input the output may be.
        max_inflate_ratio: u32,
    },
    /// Zstd.
    Zstd(ZstdDecoderOptions),
}

/// Compresses one body.
#[derive(Debug)]
pub enum Encoder {
    /// With brotli.
    Brotli(Box<brotli::Encoder>),
    /// With gzip.
    Gzip(Box<gzip::Encoder>),
    /// With zstd.
    Zstd(Box<zstd::Encoder>),
}

/// Decompresses one body.
#[derive(Debug)]
pub enum Decoder {
    /// Brotli.
    Brotli(Box<brotli::Decoder>),
    /// Gzip.
    Gzip(Box<gzip::Decoder>),
    /// Zstd.
    Zstd(Box<zstd::Decoder>),
}

/// What follows the bytes that are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Follows {
    /// More, perhaps later: what was put in can be read now.
    More,
    /// The end.
    End,
}

/// Why a body cannot be decompressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Corrupt {
    /// It is not what it should be.
    Data,
    /// The output is too large for its input.
    Ratio,
    /// It needs a dictionary that there is not.
    Dictionary,
}

impl EncoderOptions {
    /// The coding.
    #[must_use]
    pub const fn coding(&self) -> Coding {
        match self {
            Self::Brotli(_) => Coding::Brotli,
            Self::Gzip(_) => Coding::Gzip,
            Self::Zstd(_) => Coding::Zstd,
        }
    }

    /// For one body.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        match self {
            Self::Brotli(options) => Encoder::Brotli(Box::new(brotli::Encoder::new(options))),
            Self::Gzip(options) => Encoder::Gzip(Box::new(gzip::Encoder::new(options))),
            Self::Zstd(options) => Encoder::Zstd(Box::new(zstd::Encoder::new(options))),
        }
    }
}

impl DecoderOptions {
    /// The coding.
    #[must_use]
    pub const fn coding(&self) -> Coding {
        match self {
            Self::Brotli => Coding::Brotli,
            Self::Gzip { .. } => Coding::Gzip,
            Self::Zstd(_) => Coding::Zstd,
        }
    }

    /// For one body.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        match self {
            Self::Brotli => Decoder::Brotli(Box::new(brotli::Decoder::new())),
            Self::Gzip { window_bits, max_inflate_ratio } => {
                Decoder::Gzip(Box::new(gzip::Decoder::new(*window_bits, *max_inflate_ratio)))
            }
            Self::Zstd(options) => Decoder::Zstd(Box::new(zstd::Decoder::new(options))),
        }
    }
}

impl Encoder {
    /// Compresses `input` and appends the result.
    pub fn write(&mut self, input: &[u8], follows: Follows, out: &mut Vec<u8>) {
        match self {
            Self::Brotli(encoder) => encoder.write(input, follows, out),
            Self::Gzip(encoder) => encoder.write(input, follows, out),
            Self::Zstd(encoder) => encoder.write(input, follows, out),
        }
    }
}

impl Decoder {
    /// Decompresses a part of `input`, and appends a block at most. Returns how many bytes it has taken. If
    /// it has taken none and put out none, there is nothing more to be got of `input`.
    ///
    /// # Errors
    /// If the body is invalid.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        match self {
            Self::Brotli(decoder) => decoder.read(input, out),
            Self::Gzip(decoder) => decoder.read(input, out),
            Self::Zstd(decoder) => decoder.read(input, out),
        }
    }

    /// Whether the compressed body is complete.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        match self {
            Self::Brotli(decoder) => decoder.has_ended(),
            Self::Gzip(decoder) => decoder.has_ended(),
            Self::Zstd(decoder) => decoder.has_ended(),
        }
    }
}

/// The most bytes that are put out at once.
const BLOCK: usize = limits::BLOCK_BYTES;
