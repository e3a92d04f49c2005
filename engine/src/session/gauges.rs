//! What waits on a connection, as the gauges of the stats show it.
//!
//! Invariant: a connection takes back exactly what it has added.

use std::cell::Cell;

use crate::stats::Http2Stats;

/// What waits on a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Waiting {
    /// Bytes of bodies that wait for a window, or for room.
    pub(super) send_bytes: u64,
    /// Frames that the transport has not taken.
    pub(super) frames: u64,
    /// Those of them that answer control frames.
    pub(super) control_frames: u64,
    /// Streams that have ended, but were not read to their end.
    pub(super) unread_streams: u64,
}

/// What a connection has added to the gauges.
#[derive(Debug, Default)]
pub(super) struct Gauges(Cell<Waiting>);

impl Gauges {
    /// Brings the gauges up to date.
    pub(super) fn show(&self, now: Waiting, stats: &Http2Stats) {
        let before = self.0.replace(now);
        if before == now {
            return;
        }
        for (gauge, before, now) in [
            (&stats.pending_send_bytes, before.send_bytes, now.send_bytes),
            (&stats.outbound_frames_active, before.frames, now.frames),
            (&stats.outbound_control_frames_active, before.control_frames, now.control_frames),
            (&stats.deferred_stream_close, before.unread_streams, now.unread_streams),
        ] {
            gauge.add(now);
            gauge.sub(before);
        }
    }
}
