//! What the codec counts, added to the stats.

use crate::http2::{Counts, Flood};
use crate::stats::Http2Stats;

/// Adds what a codec has counted.
pub(super) fn add(stats: &Http2Stats, counts: &Counts) {
    let Counts {
        rx_reset,
        tx_reset,
        trailers,
        rx_messaging_error,
        stream_refused_errors,
        header_overflow,
        header_list_size_too_large,
        dropped_headers_with_underscores,
        requests_rejected_with_underscores_in_headers,
        goaway_sent,
    } = *counts;
    for (counter, more) in [
        (&stats.rx_reset, rx_reset),
        (&stats.tx_reset, tx_reset),
        (&stats.trailers, trailers),
        (&stats.rx_messaging_error, rx_messaging_error),
        (&stats.stream_refused_errors, stream_refused_errors),
        (&stats.header_overflow, header_overflow),
        (&stats.header_list_size_too_large, header_list_size_too_large),
        (&stats.dropped_headers_with_underscores, dropped_headers_with_underscores),
        (
            &stats.requests_rejected_with_underscores_in_headers,
            requests_rejected_with_underscores_in_headers,
        ),
        (&stats.goaway_sent, goaway_sent),
    ] {
        counter.add(more);
    }
}

/// Counts a peer that has sent too much of something.
pub fn flood(stats: &Http2Stats, flood: Flood) {
    match flood {
        Flood::Outbound => stats.outbound_flood.inc(),
        Flood::OutboundControl => stats.outbound_control_flood.inc(),
        Flood::InboundEmpty => stats.inbound_empty_frames_flood.inc(),
        Flood::InboundPriority => stats.inbound_priority_frames_flood.inc(),
        Flood::InboundWindowUpdate => stats.inbound_window_update_frames_flood.inc(),
        // The last is counted elsewhere; Envoy's codec ends the others without counting them.
        Flood::Resets | Flood::HeaderBlock | Flood::PrematureResets => {}
    }
}
