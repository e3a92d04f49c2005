//! The entries of `upstream_log`: one for each request to a host, however it ends. As in Envoy that is a stream
//! of its own: its times count from its own beginning, and it sees the response as the host has sent it.
//!
//! Nothing here decides what becomes of a request. Without `upstream_log` nothing is noted.

use std::time::{Duration, SystemTime};

use super::Core;
use super::attempt::Failed;
use super::deadlines::Timer;
use super::reply::LocalReply;
use super::stream::{Attempt, Stream};
use crate::access_log::entry_type::EntryType;
use crate::flags::{Flag, Flags};
use crate::format::Inputs;
use crate::http::{FieldName, Fields, ResponseHead};
use crate::shard::clock::Millis;
use crate::upstream::error::Error;

/// What is noted of a request to a host for its entries.
#[derive(Debug)]
pub(super) struct UpstreamEntry {
    began: Millis,
    started: SystemTime,
    flags: Flags,
    failure: Option<Error>,
    connection: Connection,
    /// The response as the host has sent it, and when.
    response: Option<(ResponseHead, Millis)>,
    trailers: Option<Fields>,
    /// How many bytes of the response's body filters have been given.
    pub(super) filtered_bytes: u64,
}

/// Whether the request has had a connection of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Connection {
    None,
    Ready,
}

impl Core<'_> {
    /// Begins a request to a host.
    #[inline]
    pub(super) fn begin_upstream_entry(&mut self) {
        if !self.service().upstream_logs.is_empty() {
            self.new_upstream_entry();
        }
    }

    #[cold]
    fn new_upstream_entry(&mut self) {
        self.upstream_entry = Some(Box::new(UpstreamEntry {
            began: self.shard.clock.now(),
            started: SystemTime::now(),
            flags: Flags::NONE,
            failure: None,
            connection: Connection::None,
            response: None,
            trailers: None,
            filtered_bytes: 0,
        }));
    }

    /// The request to a host has its connection.
    #[inline]
    pub(super) fn note_upstream_ready(&mut self) {
        if let Some(entry) = &mut self.upstream_entry {
            entry.connection = Connection::Ready;
            self.log_upstream_ready();
        }
    }

    #[cold]
    fn log_upstream_ready(&mut self) {
        if self.service().manager.upstream_logs.on_upstream_stream {
            self.log_upstream(EntryType::UpstreamPoolReady, (0, 0));
        }
        self.set_upstream_log_timer();
    }

    /// The host has sent the head of its response.
    #[inline]
    pub(super) fn note_upstream_head(&mut self) {
        if let Some(entry) = &mut self.upstream_entry {
            entry.response = Some((self.heads.response.clone(), self.shard.clock.now()));
        }
    }

    /// The host has sent its trailers: field lines.
    #[inline]
    pub(super) fn note_upstream_trailers(&mut self, lines: &[u8]) {
        if let Some(entry) = &mut self.upstream_entry
            && !lines.is_empty()
        {
            entry.trailers = Some(Fields::of_lines(lines));
        }
    }

    /// The request to a host failed.
    #[inline]
    pub(super) fn note_upstream_error(&mut self, error: Error) {
        if let Some(entry) = &mut self.upstream_entry {
            entry.flags.set(LocalReply::flag_of(error));
            entry.failure = Some(error);
            if error == Error::Overflow {
                entry.connection = Connection::None;
            }
        }
    }

    /// A timer has ended the request to a host. As in Envoy, only those of the attempt have flags, and not all.
    #[inline]
    pub(super) fn note_upstream_timeout(&mut self, timer: Timer) {
        if let Some(entry) = &mut self.upstream_entry {
            match timer {
                Timer::PerTry => entry.flags.set(Flag::UpstreamRequestTimeout),
                Timer::PerTryIdle => entry.flags.set(Flag::StreamIdleTimeout),
                _ => {}
            }
        }
    }

    /// The request to a host has ended without a response for the client.
    #[cold]
    pub(super) fn end_upstream_entry_failed(&mut self, failed: &Failed, sent: u64) {
        match *failed {
            Failed::Upstream { error, .. } => self.note_upstream_error(error),
            Failed::Deadline(timer) => self.note_upstream_timeout(timer),
            Failed::NoHealthyHost
            | Failed::ClientGone
            | Failed::ClientError(_)
            | Failed::Replied => {}
        }
        self.end_upstream_entry((sent, 0));
    }

    /// The request to a host whose response the client gets has ended, with so many bytes of body sent to the
    /// host; those of a tunnel are known already.
    #[inline]
    pub(super) fn end_upstream_entry_delivered(&mut self, sent: u64) {
        let sent = if sent > 0 { sent } else { self.upstream.body_bytes };
        self.end_upstream_entry((sent, self.record.bytes_sent));
    }

    /// The request to a host has ended, with so many bytes of body sent and received.
    #[inline]
    pub(super) fn end_upstream_entry(&mut self, bytes: (u64, u64)) {
        if self.upstream_entry.is_some() {
            self.log_upstream(EntryType::UpstreamEnd, bytes);
            self.upstream_entry = None;
            self.deadlines.set(Timer::UpstreamLog, None);
        }
    }

    /// Writes a periodic entry, and sets the time of the next one.
    #[cold]
    pub(super) fn log_upstream_periodically(&mut self) {
        let bytes = (self.upstream.body_bytes, self.record.bytes_sent);
        self.log_upstream(EntryType::UpstreamPeriodic, bytes);
        self.set_upstream_log_timer();
    }

    fn set_upstream_log_timer(&mut self) {
        if let Some(interval) = self.service().manager.upstream_logs.interval {
            let next = self.shard.clock.now().saturating_add(interval);
            self.deadlines.set(Timer::UpstreamLog, Some(next));
        }
    }

    #[cold]
    fn log_upstream(&self, entry_type: EntryType, (sent, received): (u64, u64)) {
        let Some(entry) = &self.upstream_entry else { return };
        let received = if entry.filtered_bytes > 0 { entry.filtered_bytes } else { received };
        let sent = if entry.connection == Connection::Ready { sent } else { 0 };
        let stream = self.upstream_stream(entry).with_bytes(sent, received);
        let mut request = &self.heads.request;
        let without_framing;
        if request.fields.has(FieldName::TransferEncoding) {
            // That is between this proxy and the host.
            let mut copy = request.clone();
            copy.fields.remove(FieldName::TransferEncoding);
            without_framing = copy;
            request = &without_framing;
        }
        let inputs = Inputs {
            request: Some(request),
            response: entry.response.as_ref().map(|(head, _)| head),
            trailers: entry.trailers.as_ref(),
            entry_type,
            ..Inputs::new(&stream)
        };
        self.service().upstream_logs.write(&inputs, self.random);
    }

    fn upstream_stream(&self, entry: &UpstreamEntry) -> Stream<'_> {
        let since = |at: Millis| Duration::from_millis(at.saturating_sub(entry.began));
        let response = entry.response.as_ref();
        let attempt = Attempt {
            started: entry.started,
            elapsed: since(self.shard.clock.now()),
            response_took: response.map(|(_, at)| since(*at)),
            failure: entry.failure,
            is_mirror: self.service().manager.upstream_logs.are_mirrors,
            has_connection: entry.connection == Connection::Ready,
        };
        let status = response.map(|(head, _)| head.status);
        self.stream(self.record.route).of_attempt(attempt).with_response(status, entry.flags)
    }
}
