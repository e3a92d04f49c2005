//! brotli.

use std::fmt;
use std::io::Write as _;

use brotli::enc::BrotliEncoderParams;
use brotli::enc::StandardAlloc;
use brotli::enc::backward_references::BrotliEncoderMode;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, CompressorWriter};

use super::{BLOCK, Corrupt, Follows};

/// How to compress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// From 0 to 11, the best.
    pub quality: u8,
    /// From 10 to 24.
    pub window_bits: u8,
    /// From 16 to 24.
    pub input_block_bits: u8,
    /// What the input is.
    pub mode: Mode,
    /// Whether the feature that slows decoding down is used.
    pub literal_context_modeling: bool,
}

/// What is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Font,
    Generic,
    Text,
}

/// Compresses one body.
pub struct Encoder(Option<CompressorWriter<Vec<u8>>>);

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new(options: &Options) -> Self {
        let params = BrotliEncoderParams {
            quality: options.quality.into(),
            lgwin: options.window_bits.into(),
            lgblock: options.input_block_bits.into(),
            mode: match options.mode {
                Mode::Font => BrotliEncoderMode::BROTLI_MODE_FONT,
                Mode::Generic => BrotliEncoderMode::BROTLI_MODE_GENERIC,
                Mode::Text => BrotliEncoderMode::BROTLI_MODE_TEXT,
            },
            disable_literal_context_modeling: i32::from(!options.literal_context_modeling),
            ..BrotliEncoderParams::default()
        };
        Self(Some(CompressorWriter::with_params(Vec::new(), BLOCK, &params)))
    }

    pub(super) fn write(&mut self, input: &[u8], follows: Follows, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        match follows {
            Follows::More => {
                let Some(writer) = &mut self.0 else { return };
                let _written = writer.write_all(input);
                let _flushed = writer.flush();
                out.append(writer.get_mut());
            }
            Follows::End => {
                let Some(mut writer) = self.0.take() else { return };
                let _written = writer.write_all(input);
                out.append(&mut writer.into_inner());
            }
        }
    }
}

/// Decompresses one body.
pub struct Decoder {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    has_ended: bool,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self { state: Box::new(BrotliState::new(alloc(), alloc(), alloc())), has_ended: false }
    }

    pub(super) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        if self.has_ended {
            return if input.is_empty() { Ok(0) } else { Err(Corrupt::Data) };
        }
        let mut block = vec![0; BLOCK];
        let (mut left, mut taken) = (input.len(), 0);
        let (mut room, mut written, mut total) = (block.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut written,
            &mut block,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Corrupt::Data),
            BrotliResult::ResultSuccess => self.has_ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        out.extend_from_slice(block.get(..written).unwrap_or_default());
        Ok(taken)
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}
