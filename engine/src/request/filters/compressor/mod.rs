//! `compressor`: compresses the bodies of responses that their client wants compressed, and of requests.
//!
//! Whether a response is compressed is decided from the two heads alone, in `judge`. Several compressors
//! in a chain decide together which one does it: see `accept_encoding`.

mod accept_encoding;
pub(super) mod compile;
mod head;

use std::sync::Arc;

pub(in crate::request) use self::accept_encoding::Decision;
use self::accept_encoding::{Offer, choose};
use super::{Context, Filter, Flow, Piece, Progress, RouteConfig, Way};
use crate::compression::{Coding, Encoder, EncoderOptions, Follows};
use crate::http::{BodyLength, FieldName, Fields};
use crate::runtime::RuntimeFlag;
use crate::stats::{Scope, stats};
use crate::text_matcher::TextMatcher;

stats! {
    /// `http.<stat_prefix>.compressor.<library>.<coding>.<direction>.`
    pub struct CompressorStats {
        counter compressed;
        counter content_length_too_small;
        counter not_compressed;
        counter total_compressed_bytes;
        counter total_uncompressed_bytes;
    }
}

stats! {
    /// `http.<stat_prefix>.compressor.<library>.<coding>.`: why responses are compressed or not.
    pub struct AcceptEncodingStats {
        counter header_compressor_overshadowed;
        counter header_compressor_used;
        counter header_identity;
        counter header_not_valid;
        counter header_wildcard;
        counter no_accept_header;
        counter not_compressed_etag;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Compressor {
    library: EncoderOptions,
    /// Whether it is preferred to others that the client wants as much.
    choose_first: bool,
    request: Direction,
    response: Direction,
    of_response: ResponseRules,
    accept_stats: Arc<Scope<AcceptEncodingStats>>,
}

/// What both directions have.
#[derive(Debug)]
struct Direction {
    enabled: RuntimeFlag,
    content_types: ContentTypes,
    /// A body with a shorter length is not compressed.
    length_min: u64,
    stats: Arc<Scope<CompressorStats>>,
}

/// The types that are compressed.
#[derive(Debug)]
enum ContentTypes {
    /// These, in any case.
    Listed(Box<[Box<[u8]>]>),
    Matched(Box<[TextMatcher]>),
}

/// What only responses have.
#[derive(Debug)]
struct ResponseRules {
    etag: Etag,
    remove_accept_encoding: bool,
    /// Responses with these are never compressed.
    uncompressible: Box<[u16]>,
    /// Whether a header tells what was done.
    tells_status: bool,
}

/// What happens with a strong `etag`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Etag {
    /// It is removed: it is that of another representation.
    Removed,
    /// It becomes a weak one.
    Weakened,
    /// A response with an `etag` is not compressed.
    Prevents,
}

/// What a level of a route says.
#[derive(Debug)]
pub struct PerRoute {
    /// Whether responses are compressed; none: as the filter says.
    enabled: Option<bool>,
    remove_accept_encoding: Option<bool>,
    library: Option<EncoderOptions>,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub struct State {
    accept_encoding: Option<Box<[u8]>>,
    request: Option<Encoder>,
    response: Option<Encoder>,
}

impl Compressor {
    /// What the filter offers to the clients that want compressed bodies of this type.
    fn offer(&self, content_type: Option<&[u8]>, route: Option<&PerRoute>) -> Option<Offer> {
        let is_allowed = content_type.is_none_or(|it| self.response.content_types.include(it));
        let coding = self.library(route).coding();
        is_allowed.then_some(Offer { coding, choose_first: self.choose_first })
    }

    fn library<'a>(&'a self, route: Option<&'a PerRoute>) -> &'a EncoderOptions {
        route.and_then(|route| route.library.as_ref()).unwrap_or(&self.library)
    }

    fn compresses_responses(&self, route: Option<&PerRoute>) -> bool {
        route.and_then(|route| route.enabled).unwrap_or_else(|| self.response.enabled.get())
    }

    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let route = per_route(cx);
        let stats = self.request.stats.shard(cx.core.shard.id);
        let body = cx.core.body;
        let head = &mut cx.core.heads.request;
        state.accept_encoding = head.fields.get(FieldName::AcceptEncoding).map(Into::into);
        let removes = route
            .and_then(|route| route.remove_accept_encoding)
            .unwrap_or(self.of_response.remove_accept_encoding);
        if removes && self.compresses_responses(route) {
            head.fields.remove(FieldName::AcceptEncoding);
        }
        let is_compressed = !has_ended(body)
            && self.request.enabled.get()
            && head.upgrade().is_none()
            && self.request.is_long_enough(&head.fields, stats)
            && self.request.content_types.include_that_of(&head.fields)
            && !head.fields.has(FieldName::ContentEncoding);
        if !is_compressed {
            stats.not_compressed.inc();
            return Flow::Continue;
        }
        let fields = &mut head.fields;
        fields.remove(FieldName::ContentLength);
        fields.set(FieldName::ContentEncoding, self.library.coding().name().as_bytes());
        stats.compressed.inc();
        state.request = Some(self.library.encoder());
        cx.change_body(Way::Request);
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        let route = per_route(cx);
        let library = self.library(route);
        let outcome = self.judge(state, route, cx);
        let stats = self.response.stats.shard(cx.core.shard.id);
        let coding = library.coding();
        let is_compressed = matches!(outcome, Outcome::Compressed { .. });
        if is_compressed {
            stats.compressed.inc();
            state.response = Some(library.encoder());
            cx.change_body(Way::Response);
        } else {
            stats.not_compressed.inc();
        }
        let fields = &mut cx.core.heads.response.fields;
        // In Envoy's order.
        if self.of_response.tells_status && outcome.varies() {
            head::add_vary(fields);
        }
        if is_compressed {
            head::sanitize_etag(fields, self.of_response.etag);
            fields.remove(FieldName::ContentLength);
            fields.set(FieldName::ContentEncoding, coding.name().as_bytes());
        }
        if self.of_response.tells_status {
            head::tell_status(fields, coding, outcome);
        } else if outcome.varies() {
            head::add_vary(fields);
        }
    }

    /// Decides whether a response is compressed, and counts why.
    fn judge(&self, state: &State, route: Option<&PerRoute>, cx: &mut Context<'_, '_>) -> Outcome {
        let shard = cx.core.shard.id;
        let stats = self.response.stats.shard(shard);
        let accept_stats = self.accept_stats.shard(shard);
        let head = &cx.core.heads.response;
        let fields = &head.fields;
        if !self.compresses_responses(route) {
            return Outcome::Disabled;
        }
        if !self.response.is_long_enough(fields, stats) {
            return Outcome::ContentLengthTooSmall;
        }
        let is_compressible = self.is_compressible(head.status, fields, accept_stats);
        if has_ended(cx.response_body) {
            return if is_compressible.is_ok() { Outcome::Bodiless } else { Outcome::Disabled };
        }
        let Some(accept) = &state.accept_encoding else {
            accept_stats.no_accept_header.inc();
            return is_compressible.err().unwrap_or(Outcome::NotAccepted);
        };
        let decision = match cx.coding() {
            Some(decision) => decision,
            None => {
                let content_type = fields.get(FieldName::ContentType).map(head::essence);
                let content_type = content_type.filter(|it| !it.is_empty());
                let decision = choose(accept, offers(cx, content_type));
                cx.set_coding(decision);
                decision
            }
        };
        let is_chosen = decision.coding() == Some(self.library(route).coding());
        count(decision, is_chosen, accept_stats);
        match is_compressible {
            Err(why) => why,
            Ok(()) if !is_chosen => Outcome::NotAccepted,
            Ok(()) => {
                Outcome::Compressed { length: head::content_length(&cx.core.heads.response.fields) }
            }
        }
    }

    /// Whether the response could be compressed, whatever the client accepts.
    fn is_compressible(
        &self,
        status: u16,
        fields: &Fields,
        stats: &AcceptEncodingStats,
    ) -> Result<(), Outcome> {
        // A part of a representation is no part of a compressed one.
        let is_partial = status == 206 || fields.find(b"content-range").is_some();
        if is_partial || self.of_response.uncompressible.contains(&status) {
            return Err(Outcome::StatusCodeNotAllowed);
        }
        if head::is_upgrade(fields) {
            return Err(Outcome::Disabled);
        }
        if !self.response.content_types.include_that_of(fields) {
            return Err(Outcome::ContentTypeNotAllowed);
        }
        if head::forbids_transforms(fields) {
            return Err(Outcome::NotTransformable);
        }
        if self.of_response.etag == Etag::Prevents && fields.has(FieldName::Etag) {
            stats.not_compressed_etag.inc();
            return Err(Outcome::EtagNotAllowed);
        }
        if fields.has(FieldName::ContentEncoding) {
            return Err(Outcome::NotTransformable);
        }
        Ok(())
    }

    pub(super) fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        shard: usize,
    ) -> Progress {
        let (encoder, direction) = match way {
            Way::Request => (&mut state.request, &self.request),
            Way::Response => (&mut state.response, &self.response),
        };
        let Some(encoder) = encoder else {
            output.take_all(input);
            return Progress::Moved;
        };
        let follows = if input.has_ended() { Follows::End } else { Follows::More };
        let before = output.data.len();
        encoder.write(&input.data, follows, &mut output.data);
        let stats = direction.stats.shard(shard);
        stats.total_uncompressed_bytes.add(input.data.len() as u64);
        stats.total_compressed_bytes.add((output.data.len() - before) as u64);
        input.data.clear();
        output.end = input.end.take();
        Progress::Moved
    }
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It is compressed; its length, if that was known.
    Compressed {
        length: Option<u64>,
    },
    /// It could be, but has no body.
    Bodiless,
    /// It could be, but not for this client, or not by this filter.
    NotAccepted,
    ContentLengthTooSmall,
    ContentTypeNotAllowed,
    EtagNotAllowed,
    /// It forbids it, or is compressed already.
    NotTransformable,
    StatusCodeNotAllowed,
    Disabled,
}

impl Outcome {
    /// Whether another client could get another representation.
    const fn varies(self) -> bool {
        matches!(self, Self::Compressed { .. } | Self::Bodiless | Self::NotAccepted)
    }
}

impl Direction {
    /// Whether a body without a length, or with this one, is compressed.
    fn is_long_enough(&self, fields: &Fields, stats: &CompressorStats) -> bool {
        let Some(length) = fields.get(FieldName::ContentLength) else { return true };
        let is_enough = crate::http::content_length(length).is_some_and(|it| it >= self.length_min);
        if !is_enough {
            stats.content_length_too_small.inc();
        }
        is_enough
    }
}

impl ContentTypes {
    fn include_that_of(&self, fields: &Fields) -> bool {
        let content_type = fields.get(FieldName::ContentType).map(head::essence);
        content_type.is_none_or(|content_type| self.include(content_type))
    }

    /// Whether a type without its parameters is included.
    fn include(&self, content_type: &[u8]) -> bool {
        match self {
            Self::Listed(types) => types.iter().any(|it| it.eq_ignore_ascii_case(content_type)),
            Self::Matched(matchers) => matchers.iter().any(|it| it.matches(content_type)),
        }
    }
}

fn per_route<'c>(cx: &Context<'c, '_>) -> Option<&'c PerRoute> {
    cx.route_config(|config| match config {
        RouteConfig::Compressor(config) => Some(&**config),
        _ => None,
    })
}

/// What the compressors of the chain offer.
fn offers(cx: &Context<'_, '_>, content_type: Option<&[u8]>) -> Vec<Offer> {
    let offer = |(filter, configs): (&Filter, &[Arc<RouteConfig>])| {
        let Filter::Compressor(filter) = filter else { return None };
        let route = configs.iter().find_map(|config| match &**config {
            RouteConfig::Compressor(config) => Some(&**config),
            _ => None,
        });
        filter.offer(content_type, route)
    };
    cx.running().filter_map(offer).collect()
}

fn count(decision: Decision, is_chosen: bool, stats: &AcceptEncodingStats) {
    match decision {
        Decision::Compressor(_) if is_chosen => &stats.header_compressor_used,
        Decision::Compressor(_) => &stats.header_compressor_overshadowed,
        Decision::Wildcard(_) => &stats.header_wildcard,
        Decision::Identity => &stats.header_identity,
        Decision::NotValid => &stats.header_not_valid,
    }
    .inc();
}

const fn has_ended(body: BodyLength) -> bool {
    matches!(body, BodyLength::None | BodyLength::Length(0))
}
