//! zstd.

use std::fmt;
use std::sync::Arc;

use zstd::stream::raw::{self, CParameter, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{self, Strategy};

use super::{BLOCK, Corrupt, Follows};

/// How to compress.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0 is the default.
    pub level: i32,
    /// Whether a checksum ends the body.
    pub checksum: bool,
    /// None: that of the level.
    pub strategy: Option<Strategy>,
    /// May be empty.
    pub dictionary: Arc<[u8]>,
}

/// How to decompress.
#[derive(Clone, Debug, Default)]
pub struct DecoderOptions {
    /// The body says by number which one it needs.
    pub dictionaries: Arc<[Box<[u8]>]>,
}

/// Compresses one body.
pub struct Encoder(Option<raw::Encoder<'static>>);

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new(options: &Options) -> Self {
        let encoder = raw::Encoder::with_dictionary(options.level, &options.dictionary);
        Self(encoder.ok().map(|mut encoder| {
            // Parameters that the library has checked once do not fail.
            let _set = encoder.set_parameter(CParameter::ChecksumFlag(options.checksum));
            if let Some(strategy) = options.strategy {
                let _set = encoder.set_parameter(CParameter::Strategy(strategy));
            }
            encoder
        }))
    }

    pub(super) fn write(&mut self, input: &[u8], follows: Follows, out: &mut Vec<u8>) {
        let Some(encoder) = &mut self.0 else { return };
        let mut input = InBuffer::around(input);
        let mut block = vec![0; BLOCK];
        while input.pos() < input.src.len() {
            let mut output = OutBuffer::around(&mut block[..]);
            if encoder.run(&mut input, &mut output).is_err() {
                return;
            }
            out.extend_from_slice(output.as_slice());
        }
        loop {
            let mut output = OutBuffer::around(&mut block[..]);
            let left = match follows {
                Follows::More => encoder.flush(&mut output),
                Follows::End => encoder.finish(&mut output, true),
            };
            out.extend_from_slice(output.as_slice());
            if left.is_ok_and(|left| left > 0) {
                continue;
            }
            return;
        }
    }
}

/// Decompresses one body.
pub struct Decoder {
    decoder: State,
    has_ended: bool,
}

enum State {
    /// The body has not said yet which dictionary it needs.
    Undecided(DecoderOptions),
    Decoding(raw::Decoder<'static>),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Decoder {
    pub(super) fn new(options: &DecoderOptions) -> Self {
        let decoder = State::Undecided(options.clone());
        Self { decoder, has_ended: false }
    }

    pub(super) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        if let State::Undecided(options) = &self.decoder {
            if input.is_empty() {
                return Ok(0);
            }
            self.decoder = State::Decoding(options.decoder(input)?);
        }
        let State::Decoding(decoder) = &mut self.decoder else { return Err(Corrupt::Data) };
        let mut block = vec![0; BLOCK];
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(&mut block[..]);
        let hint = decoder.run(&mut input, &mut output).map_err(|_| Corrupt::Data)?;
        if input.pos() > 0 || !output.as_slice().is_empty() {
            // One frame may follow another.
            self.has_ended = hint == 0;
        }
        out.extend_from_slice(output.as_slice());
        Ok(input.pos())
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl DecoderOptions {
    /// For a body that begins so.
    fn decoder(&self, start: &[u8]) -> Result<raw::Decoder<'static>, Corrupt> {
        let wanted = zstd_safe::get_dict_id_from_frame(start);
        let decoder = match wanted {
            None => raw::Decoder::new(),
            Some(id) => {
                let has_id =
                    |dictionary: &&[u8]| zstd_safe::get_dict_id_from_dict(dictionary) == Some(id);
                let dictionary = self
                    .dictionaries
                    .iter()
                    .map(|it| &**it)
                    .find(has_id)
                    .ok_or(Corrupt::Dictionary)?;
                raw::Decoder::with_dictionary(dictionary)
            }
        };
        decoder.map_err(|_| Corrupt::Data)
    }
}
