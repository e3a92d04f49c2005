//! `bandwidth_limit`: bodies take from a token bucket that all requests and shards share.
//!
//! As in Envoy a body goes on every fill interval with as many bytes as the bucket has.

pub(super) mod compile;

use std::sync::Arc;

use super::{Context, Flow, Piece, Progress, RouteConfig, Way};
use crate::http::BodyLength;
use crate::runtime::RuntimeFlag;
use crate::shard::clock::Millis;
use crate::stats::{Counter, Gauge, Histogram, Scope, stats};
use crate::token_bucket::{Rate, Tokens};

stats! {
    /// `<stat_prefix>.http_bandwidth_limit.`
    pub struct BandwidthLimitStats {
        counter request_allowed_total_size;
        gauge request_allowed_size;
        counter request_enabled;
        counter request_enforced;
        counter request_incoming_total_size;
        gauge request_incoming_size;
        gauge request_pending;
        late histogram request_transfer_duration;
        counter response_allowed_total_size;
        gauge response_allowed_size;
        counter response_enabled;
        counter response_enforced;
        counter response_incoming_total_size;
        gauge response_incoming_size;
        gauge response_pending;
        late histogram response_transfer_duration;
    }
}

/// The filter.
#[derive(Debug)]
pub struct BandwidthLimit(Settings);

/// What the filter, or a route, says.
#[derive(Debug)]
pub struct Settings {
    /// Whether it does anything.
    enabled: RuntimeFlag,
    /// The directions that are limited.
    limits: Directions,
    bucket: Arc<Bucket>,
    /// How long a body waits for more tokens, in milliseconds.
    fill_interval: u64,
    /// What the names of the trailers begin with that tell the client of delays; none: it is not told.
    trailer_prefix: Option<Box<str>>,
    stats: Arc<Scope<BandwidthLimitStats>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Directions {
    request: bool,
    response: bool,
}

/// The bytes that may go on, a token each.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: Tokens,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State {
    request: Transfer,
    response: Transfer,
}

/// A body on its way.
#[derive(Debug, Default)]
struct Transfer {
    /// Since when it is on its way.
    began: Option<Millis>,
    /// Whether its end comes with its last bytes, as that of a local reply.
    ends_at_once: bool,
    /// How many bytes wait.
    waiting: usize,
    /// How long it took, in milliseconds.
    took: u64,
    /// How long of that it has waited for tokens.
    delayed: u64,
    /// Counts it as long as it is on its way.
    pending: Option<Pending>,
}

/// Counts a body until it is dropped.
#[derive(Debug)]
struct Pending {
    stats: Arc<Scope<BandwidthLimitStats>>,
    shard: usize,
    way: Way,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.stats.shard(self.shard).of(self.way).pending.dec();
    }
}

/// The stats of one direction.
struct OneWay<'a> {
    allowed_size: &'a Gauge,
    allowed_total_size: &'a Counter,
    enabled: &'a Counter,
    enforced: &'a Counter,
    incoming_size: &'a Gauge,
    incoming_total_size: &'a Counter,
    pending: &'a Gauge,
    transfer_duration: &'a Histogram,
}

impl BandwidthLimitStats {
    const fn of(&self, way: Way) -> OneWay<'_> {
        match way {
            Way::Request => OneWay {
                allowed_size: &self.request_allowed_size,
                allowed_total_size: &self.request_allowed_total_size,
                enabled: &self.request_enabled,
                enforced: &self.request_enforced,
                incoming_size: &self.request_incoming_size,
                incoming_total_size: &self.request_incoming_total_size,
                pending: &self.request_pending,
                transfer_duration: &self.request_transfer_duration,
            },
            Way::Response => OneWay {
                allowed_size: &self.response_allowed_size,
                allowed_total_size: &self.response_allowed_total_size,
                enabled: &self.response_enabled,
                enforced: &self.response_enforced,
                incoming_size: &self.response_incoming_size,
                incoming_total_size: &self.response_incoming_total_size,
                pending: &self.response_pending,
                transfer_duration: &self.response_transfer_duration,
            },
        }
    }
}

impl Directions {
    const fn has(self, way: Way) -> bool {
        match way {
            Way::Request => self.request,
            Way::Response => self.response,
        }
    }
}

impl BandwidthLimit {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let length = cx.core.body;
        self.head(Way::Request, length, cx);
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        state.response.ends_at_once = cx.is_local_reply();
        let length = cx.response_body;
        self.head(Way::Response, length, cx);
    }

    fn head(&self, way: Way, length: BodyLength, cx: &mut Context<'_, '_>) {
        let settings = self.settings(cx.configs);
        if !settings.enabled.get() || !settings.limits.has(way) {
            return;
        }
        settings.stats.shard(cx.core.shard.id).of(way).enabled.inc();
        if !matches!(length, BodyLength::None | BodyLength::Length(0)) {
            cx.see_body(way);
        }
    }

    fn settings<'a>(&'a self, configs: &'a [Arc<RouteConfig>]) -> &'a Settings {
        let of_route = |config: &'a Arc<RouteConfig>| match &**config {
            RouteConfig::BandwidthLimit(settings) => Some(&**settings),
            _ => None,
        };
        configs.iter().find_map(of_route).unwrap_or(&self.0)
    }

    /// Lets pass what may pass now.
    pub(super) fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        cx: &Context<'_, '_>,
    ) -> Progress {
        let settings = self.settings(cx.configs);
        let (now, shard) = (cx.core.shard.clock.now(), cx.core.shard.id);
        let transfer = match way {
            Way::Request => &mut state.request,
            Way::Response => &mut state.response,
        };
        transfer.begin(settings, way, shard, now);
        let progress = transfer.pass(settings, way, input, output, shard, now);
        if output.has_ended() {
            transfer.end(settings, way, shard, now);
            if let (Way::Response, Some(prefix), Some(lines)) =
                (way, &settings.trailer_prefix, &mut output.end)
                && cx.may_add_trailers(Way::Response)
            {
                state.tell(prefix, lines);
            }
        }
        progress
    }
}

impl Transfer {
    fn begin(&mut self, settings: &Settings, way: Way, shard: usize, now: Millis) {
        if self.began.is_none() {
            self.began = Some(now);
            settings.stats.shard(shard).of(way).pending.inc();
            self.pending = Some(Pending { stats: Arc::clone(&settings.stats), shard, way });
        }
    }

    fn pass(
        &mut self,
        settings: &Settings,
        way: Way,
        input: &mut Piece,
        output: &mut Piece,
        shard: usize,
        now: Millis,
    ) -> Progress {
        let stats = settings.stats.shard(shard).of(way);
        let wanted = input.data.len() as u64;
        let incoming = wanted - self.waiting as u64;
        // As in Envoy, the end of a body from a codec comes in last, unless that is the trailers.
        let is_end = input.end.as_ref().is_some_and(Vec::is_empty) && !self.ends_at_once;
        stats.incoming_size.set(if is_end { 0 } else { incoming });
        stats.incoming_total_size.add(incoming);
        let allowed = settings.bucket.take(wanted, now);
        let rest = input.data.split_off(usize::try_from(allowed).unwrap_or(usize::MAX));
        output.take_data(std::mem::replace(&mut input.data, rest));
        stats.allowed_size.set(allowed);
        stats.allowed_total_size.add(allowed);
        self.waiting = input.data.len();
        if self.waiting == 0 {
            output.end = input.end.take();
            return Progress::Moved;
        }
        stats.enforced.inc();
        self.delayed += settings.fill_interval;
        Progress::Until(now + settings.fill_interval)
    }

    fn end(&mut self, settings: &Settings, way: Way, shard: usize, now: Millis) {
        self.took = now.saturating_sub(self.began.unwrap_or(now));
        settings.stats.shard(shard).of(way).transfer_duration.record(self.took);
        self.pending = None;
    }
}

impl State {
    /// Adds trailers that tell the client of delays.
    fn tell(&self, prefix: &str, lines: &mut Vec<u8>) {
        let Self { request, response } = self;
        for (name, value) in [
            ("request-delay", request.took),
            ("request-filter-delay", request.delayed),
            ("response-delay", response.took),
            ("response-filter-delay", response.delayed),
        ] {
            if value > 0 {
                let line = format!("{prefix}bandwidth-{name}-ms: {value}\r\n");
                lines.extend_from_slice(line.as_bytes());
            }
        }
    }
}

impl Bucket {
    /// Takes a token for each byte, as far as there are any.
    fn take(&self, bytes: u64, now: Millis) -> u64 {
        self.tokens.take_up_to(bytes, &self.rate, now)
    }
}
