//! The entries of the access logs: one for each request, however it ends.
//!
//! What an exchange learns on its way is in its [`Record`]; the rest of an entry is read when it is
//! written. Nothing here decides what becomes of a request.

use std::borrow::Cow;
use std::time::Duration;

use super::Core;
use super::deadlines::Timer;
use super::end::Ended;
use super::given::Given;
use super::reply::LocalReply;
use super::route::{Action, Route};
use super::stream::Stream;
use crate::access_log::entry_type::EntryType;
use crate::flags::{Flag, Flags};
use crate::format::Inputs;
use crate::http::{FieldName, Fields};
use crate::pipe::heads::Heads;
use crate::shard::clock::Millis;
use crate::upstream::error::Error;

/// The details of a request that got the whole response of a host.
pub(super) const VIA_UPSTREAM: &str = "via_upstream";

/// What an exchange notes for its entry.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    /// Its route.
    pub(super) route: Option<&'a Route>,
    /// Whether the `health_check` filter has recognized it as a health check.
    pub(super) is_health_check: bool,
    /// The status of the response that was begun.
    status: Option<u16>,
    /// Why it ended as it did; none: with the response of a host, or with its client.
    details: Option<Cow<'static, str>>,
    /// Bytes of the response's body.
    pub(super) bytes_sent: u64,
    /// The trailers of the response.
    trailers: Option<Box<Fields>>,
    /// When the first byte of the host's response was received.
    response_began: Option<Millis>,
}

impl Core<'_> {
    /// Notes that the client gets the response of a host, which has just been received.
    #[inline]
    pub(super) fn note_response(&mut self) {
        self.record.response_began = Some(self.shard.clock.now());
    }

    /// Notes the status that the client gets.
    #[inline]
    pub(super) fn note_status(&mut self) {
        self.record.status = Some(self.heads.response.status);
    }

    /// Notes the local reply that the client gets, with so many bytes of body.
    pub(super) fn note_reply(&mut self, flags: Flags, details: Cow<'static, str>, bytes: u64) {
        self.flags = flags;
        self.record.details = Some(details);
        self.record.bytes_sent = bytes;
        self.note_status();
    }

    /// Notes the trailers that the client gets, given as field lines.
    #[inline]
    pub(super) fn note_trailers(&mut self, lines: &[u8]) {
        if !lines.is_empty() && !self.service().access_logs.is_empty() {
            self.record.trailers = Some(Box::new(Fields::of_lines(lines)));
        }
    }

    /// Notes the cluster that a request would have gone to.
    #[cold]
    pub(super) fn note_cluster(&mut self, action: &Action) {
        if let Action::Forward(plan) = action {
            self.upstream.cluster = self.cluster_of(plan);
        }
    }

    /// Notes what is special about the response of a host.
    pub(super) fn note_details(&mut self, details: impl Into<Cow<'static, str>>) {
        self.record.details = Some(details.into());
    }

    /// Notes that the response was cut off by an error of the host.
    pub(super) fn note_upstream_failure(&mut self, error: Error) {
        let flag = LocalReply::flag_of(error);
        self.note_upstream_error(error);
        self.note_end(Some(flag), error.response_code_details(true));
    }

    /// Notes that the response was cut off by a timer.
    pub(super) fn note_timeout(&mut self, timer: Timer) {
        let (flag, details) = match timer {
            Timer::Route => (Some(Flag::UpstreamRequestTimeout), "response_timeout"),
            Timer::PerTry => (Some(Flag::UpstreamRequestTimeout), "upstream_per_try_timeout"),
            Timer::PerTryIdle => {
                (Some(Flag::UpstreamRequestTimeout), "upstream_per_try_idle_timeout")
            }
            Timer::UpstreamDuration => (
                Some(Flag::UpstreamMaxStreamDurationReached),
                "upstream_max_stream_duration_reached",
            ),
            Timer::Request => (None, "request_overall_timeout"),
            Timer::StreamDuration => (None, "max_duration_timeout"),
            Timer::StreamIdle => (Some(Flag::StreamIdleTimeout), "stream_idle_timeout"),
            Timer::AccessLog
            | Timer::Backoff
            | Timer::Filter
            | Timer::HalfClosed
            | Timer::UpstreamLog => return,
        };
        self.note_upstream_timeout(timer);
        self.note_end(flag, details);
    }

    fn note_end(&mut self, flag: Option<Flag>, details: impl Into<Cow<'static, str>>) {
        if let Some(flag) = flag {
            self.flags.set(flag);
        }
        self.record.details = Some(details.into());
    }

    /// Writes the entry of a request that has ended; `was_reset`: by the client, without its connection.
    #[cold]
    pub(super) fn log(&mut self, ended: Ended, was_reset: bool) {
        if self.record.details.is_none() {
            match ended {
                Ended::Whole | Ended::Early => self.note_details(VIA_UPSTREAM),
                Ended::Cut | Ended::Over if was_reset => {
                    self.note_end(Some(Flag::DownstreamRemoteReset), "http2.remote_reset");
                }
                Ended::Cut | Ended::Over => self.note_end(
                    Some(Flag::DownstreamConnectionTermination),
                    "downstream_remote_disconnect",
                ),
            }
        }
        // That is between this proxy and its neighbours.
        self.heads.request.fields.remove(FieldName::TransferEncoding);
        self.heads.response.fields.remove(FieldName::TransferEncoding);
        let is_complete = match ended {
            Ended::Whole | Ended::Early => true,
            Ended::Over => self.record.details.as_deref() == Some(VIA_UPSTREAM),
            Ended::Cut => false,
        };
        let stream = self.logged_stream(is_complete);
        let inputs = Inputs {
            request: Some(&self.heads.request).filter(|_| !self.is_malformed()),
            response: self.record.status.map(|_| &self.heads.response),
            trailers: self.record.trailers.as_deref(),
            entry_type: EntryType::DownstreamEnd,
            ..Inputs::new(&stream)
        };
        self.service().access_logs.write(&inputs, self.random);
    }

    /// Writes an entry of a request that is in progress.
    #[cold]
    pub(super) fn log_now(&self, entry_type: EntryType) {
        let mut stream = self.logged_stream(false);
        if self.record.status.is_some() {
            stream = stream.with_details_or(VIA_UPSTREAM);
        }
        let inputs = Inputs {
            request: Some(&self.heads.request),
            response: self.record.status.map(|_| &self.heads.response),
            trailers: self.record.trailers.as_deref(),
            entry_type,
            ..Inputs::new(&stream)
        };
        self.service().access_logs.write(&inputs, self.random);
    }

    /// Writes a periodic entry, and sets the time of the next one.
    #[cold]
    pub(super) fn log_periodically(&mut self) {
        self.log_now(EntryType::DownstreamPeriodic);
        self.set_log_timer();
    }

    /// Sets the time of the next periodic entry.
    #[inline]
    pub(super) fn set_log_timer(&mut self) {
        if let Some(interval) = self.service().manager.log_times.interval {
            let next = self.shard.clock.now().saturating_add(interval);
            self.deadlines.set(Timer::AccessLog, Some(next));
        }
    }

    /// Whether the head of the request was refused as malformed. As in Envoy, nothing is known of it then.
    fn is_malformed(&self) -> bool {
        self.facts.is_none() && self.flags.has(Flag::DownstreamProtocolError)
    }

    /// The current state for an entry.
    fn logged_stream(&self, is_complete: bool) -> Stream<'_> {
        let Record {
            route,
            is_health_check: _, // part of the stream already
            status,
            details,
            bytes_sent,
            trailers: _,
            response_began,
        } = &self.record;
        let since = |from: Millis, to: Millis| Duration::from_millis(to.saturating_sub(from));
        let now = self.shard.clock.now();
        let stream = self.stream(*route);
        let stream = if self.is_malformed() { stream.without_request() } else { stream };
        stream.with_outcome(
            *status,
            (self.flags, details.as_deref()),
            *bytes_sent,
            response_began.map(|began| since(self.heads.began, began)),
            response_began.filter(|_| is_complete).map(|began| since(began, now)),
        )
    }
}

/// Writes the entry of a request whose head was refused or never came. Of it nothing is known.
#[cold]
pub(super) fn refused(given: &Given, reply: &LocalReply, heads: &Heads, bytes: u64) {
    let logs = &given.service.access_logs;
    if logs.is_empty() {
        return;
    }
    let Heads { request, response, .. } = heads;
    let outcome = (reply.flags, Some(&*reply.details));
    let stream = Stream::of(given, request.version);
    let stream = stream.with_outcome(Some(response.status), outcome, bytes, None, None);
    let inputs = Inputs {
        response: Some(response),
        entry_type: EntryType::DownstreamEnd,
        ..Inputs::new(&stream)
    };
    let random = given.shard.random.borrow_mut().u64(..);
    logs.write(&inputs, random);
}
