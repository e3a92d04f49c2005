//! gzip, with zlib-rs.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{BLOCK, Corrupt, Follows};

/// How to compress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// From 1, the fastest, to 9, the best.
    pub level: u8,
    /// From 9 to 15.
    pub window_bits: u8,
}

/// Compresses one body.
#[derive(Debug)]
pub struct Encoder(Compress);

impl Encoder {
    pub(super) fn new(options: &Options) -> Self {
        let level = Compression::new(options.level.into());
        Self(Compress::new_gzip(level, options.window_bits))
    }

    pub(super) fn write(&mut self, mut input: &[u8], follows: Follows, out: &mut Vec<u8>) {
        let flush = match follows {
            Follows::More => FlushCompress::Sync,
            Follows::End => FlushCompress::Finish,
        };
        loop {
            out.reserve(BLOCK);
            let before = self.0.total_in();
            let status = self.0.compress_vec(input, out, flush);
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(input.len());
            input = input.get(taken..).unwrap_or_default();
            // The output was not filled: nothing more is to come.
            let is_done = input.is_empty() && out.len() < out.capacity();
            if is_done || !matches!(status, Ok(Status::Ok)) {
                return;
            }
        }
    }
}

/// Decompresses one body.
#[derive(Debug)]
pub struct Decoder {
    inflate: Decompress,
    max_ratio: u64,
    has_ended: bool,
}

impl Decoder {
    pub(super) fn new(window_bits: u8, max_inflate_ratio: u32) -> Self {
        Self {
            inflate: Decompress::new_gzip(window_bits),
            max_ratio: max_inflate_ratio.into(),
            has_ended: false,
        }
    }

    pub(super) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        if self.has_ended {
            // Something behind the end.
            return if input.is_empty() { Ok(0) } else { Err(Corrupt::Data) };
        }
        let mut block = Vec::with_capacity(BLOCK);
        let before = self.inflate.total_in();
        let status = self.inflate.decompress_vec(input, &mut block, FlushDecompress::None);
        let status = status.map_err(|_| Corrupt::Data)?;
        self.has_ended = status == Status::StreamEnd;
        if self.inflate.total_out() > self.inflate.total_in().saturating_mul(self.max_ratio) {
            return Err(Corrupt::Ratio);
        }
        out.append(&mut block);
        Ok(usize::try_from(self.inflate.total_in() - before).unwrap_or(input.len()))
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}
