//! `decompressor`: decompresses the bodies of requests and responses in one coding.

pub(super) mod compile;

use std::sync::Arc;

use super::{Context, Flow, Piece, Progress, Way};
use crate::compression::{Coding, Corrupt, Decoder, DecoderOptions};
use crate::http::{BodyLength, Fault, FieldName, Fields, Misdeed, Reject};
use crate::runtime::RuntimeFlag;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.decompressor.<library>.<coding>.<direction>.`
    pub struct DecompressorStats {
        counter decompressed;
        counter not_decompressed;
        counter total_compressed_bytes;
        counter total_uncompressed_bytes;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Decompressor {
    library: DecoderOptions,
    request: Direction,
    response: Direction,
    /// Whether hosts are told that they may compress.
    advertises: bool,
    /// The names of the trailers that tell how much was decompressed.
    trailers: Trailers,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    enabled: RuntimeFlag,
    ignores_no_transform: bool,
    stats: Arc<Scope<DecompressorStats>>,
}

#[derive(Debug)]
struct Trailers {
    compressed: Box<[u8]>,
    uncompressed: Box<[u8]>,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub struct State {
    request: Option<Body>,
    response: Option<Body>,
}

/// A body that is decompressed.
#[derive(Debug)]
struct Body {
    decoder: Decoder,
    taken: u64,
    put_out: u64,
}

impl Decompressor {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let coding = self.library.coding();
        if self.response.enabled.get() && self.advertises {
            advertise(&mut cx.core.heads.request.fields, coding);
        }
        if has_ended(cx.core.body) {
            return Flow::Continue;
        }
        let shard = cx.core.shard.id;
        if self.request.accepts(&mut cx.core.heads.request.fields, coding, shard) {
            state.request = Some(Body::new(&self.library));
            cx.change_body(Way::Request);
        }
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        if has_ended(cx.response_body) {
            return;
        }
        let shard = cx.core.shard.id;
        let fields = &mut cx.core.heads.response.fields;
        if self.response.accepts(fields, self.library.coding(), shard) {
            state.response = Some(Body::new(&self.library));
            cx.change_body(Way::Response);
        }
    }

    /// # Errors
    /// If the body is not what its head says.
    pub(super) fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        cx: &Context<'_, '_>,
    ) -> Result<Progress, Fault> {
        let (body, direction) = match way {
            Way::Request => (&mut state.request, &self.request),
            Way::Response => (&mut state.response, &self.response),
        };
        let Some(body) = body else {
            output.take_all(input);
            return Ok(Progress::Moved);
        };
        let before = output.data.len();
        let taken = body.decoder.read(&input.data, &mut output.data);
        let taken = taken.map_err(|corrupt| Fault::Malformed(reject(corrupt)))?;
        let put_out = output.data.len() - before;
        input.data.drain(..taken);
        body.taken += taken as u64;
        body.put_out += put_out as u64;
        let stats = direction.stats.shard(cx.core.shard.id);
        stats.total_compressed_bytes.add(taken as u64);
        stats.total_uncompressed_bytes.add(put_out as u64);
        if put_out > 0 {
            return Ok(Progress::PerhapsMore);
        }
        if input.data.is_empty()
            && let Some(mut trailers) = input.end.take()
        {
            if !body.decoder.has_ended() && body.taken > 0 {
                return Err(Fault::Malformed(reject(Corrupt::Data)));
            }
            if cx.may_add_trailers(way) {
                self.trailers.add(body, &mut trailers);
            }
            output.end = Some(trailers);
        }
        Ok(Progress::Moved)
    }
}

impl Body {
    fn new(library: &DecoderOptions) -> Self {
        Self { decoder: library.decoder(), taken: 0, put_out: 0 }
    }
}

impl Direction {
    /// Whether a body is decompressed; if so, its head is changed.
    fn accepts(&self, fields: &mut Fields, coding: Coding, shard: usize) -> bool {
        let stats = self.stats.shard(shard);
        let is_accepted = self.enabled.get()
            && (self.ignores_no_transform || !forbids_transforms(fields))
            && is_last_coding(fields, coding);
        if !is_accepted {
            stats.not_decompressed.inc();
            return false;
        }
        stats.decompressed.inc();
        fields.remove(FieldName::ContentLength);
        remove_last_coding(fields);
        true
    }
}

impl Trailers {
    fn add(&self, body: &Body, lines: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        for (name, count) in [(&self.compressed, body.taken), (&self.uncompressed, body.put_out)] {
            lines.extend_from_slice(name);
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(digits.format(count).as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
    }
}

/// Adds the coding to what the client accepts. As in Envoy it comes last, and wanted without reserve.
fn advertise(fields: &mut Fields, coding: Coding) {
    let name = coding.name().as_bytes();
    let is_other = |token: &&[u8]| {
        !token.is_empty()
            && token.split(|&byte| byte == b';').next().map(<[u8]>::trim_ascii) != Some(name)
    };
    let values = fields.get_all(FieldName::AcceptEncoding);
    let tokens = values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let accepted: Vec<&[u8]> = tokens.filter(is_other).chain([name]).collect();
    let accepted = accepted.join(&b","[..]);
    fields.set(FieldName::AcceptEncoding, &accepted);
}

fn forbids_transforms(fields: &Fields) -> bool {
    fields.get_all(FieldName::CacheControl).any(|value| {
        let mut tokens = value.split(|&byte| byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}

/// Whether the body was compressed with this last.
fn is_last_coding(fields: &Fields, coding: Coding) -> bool {
    let value = fields.get(FieldName::ContentEncoding).unwrap_or_default();
    let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(coding.name().as_bytes())
}

fn remove_last_coding(fields: &mut Fields) {
    let value = fields.get(FieldName::ContentEncoding).unwrap_or_default();
    let others = memchr::memrchr(b',', value).and_then(|at| value.get(..at)).map(<[u8]>::to_vec);
    match others {
        Some(others) => fields.set(FieldName::ContentEncoding, &others),
        None => fields.remove(FieldName::ContentEncoding),
    }
}

const fn has_ended(body: BodyLength) -> bool {
    matches!(body, BodyLength::None | BodyLength::Length(0))
}

/// What becomes of a body that is not what its head says.
const fn reject(corrupt: Corrupt) -> Reject {
    let details = match corrupt {
        Corrupt::Data => "decompressor_invalid_body",
        Corrupt::Ratio => "decompressor_ratio_exceeded",
        Corrupt::Dictionary => "decompressor_unknown_dictionary",
    };
    Reject { status: 400, body: "Bad Request", details, misdeed: Misdeed::Malformed }
}
