//! What costs a peer nothing and us something, counted against Envoy's limits.

use super::error::{ConnectionError, Flood};
use super::options::Options;

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Abuse {
    /// Frames that wait to be sent.
    outbound: u32,
    /// Those of them that answer control frames.
    outbound_control: u32,
    empty: u32,
    priority: u64,
    window_updates: u64,
    opened: u64,
    data_sent: u64,
    resets: Resets,
}

/// A token bucket for resets.
#[derive(Debug)]
struct Resets {
    /// In thousandths.
    tokens: u64,
    filled_ms: u64,
}

impl Abuse {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            outbound: 0,
            outbound_control: 0,
            empty: 0,
            priority: 0,
            window_updates: 0,
            opened: 0,
            data_sent: 0,
            resets: Resets { tokens: u64::from(options.stream_reset_burst) * 1000, filled_ms: 0 },
        }
    }

    /// A stream was opened.
    pub(super) const fn opened(&mut self) {
        self.opened += 1;
    }

    /// A frame was written.
    pub(super) const fn wrote(&mut self) {
        self.outbound = self.outbound.saturating_add(1);
    }

    /// A DATA frame was written.
    pub(super) const fn wrote_data(&mut self) {
        self.wrote();
        self.data_sent += 1;
    }

    /// An answer to a control frame was written.
    pub(super) const fn wrote_control(&mut self) {
        self.wrote();
        self.outbound_control = self.outbound_control.saturating_add(1);
    }

    /// Everything was sent.
    pub(super) const fn all_sent(&mut self) {
        self.outbound = 0;
        self.outbound_control = 0;
    }

    /// A frame of the peer was handled.
    pub(super) const fn check_outbound(&self, options: &Options) -> Result<(), ConnectionError> {
        if self.outbound_control > options.max_outbound_control_frames {
            return Err(ConnectionError::flood(Flood::OutboundControl));
        }
        if self.outbound > options.max_outbound_frames {
            return Err(ConnectionError::flood(Flood::Outbound));
        }
        Ok(())
    }

    /// A frame that carries a body or a header block.
    pub(super) const fn content(
        &mut self,
        is_empty: bool,
        options: &Options,
    ) -> Result<(), ConnectionError> {
        if !is_empty {
            self.empty = 0;
            return Ok(());
        }
        self.empty += 1;
        if self.empty > options.max_consecutive_inbound_frames_with_empty_payload {
            return Err(ConnectionError::flood(Flood::InboundEmpty));
        }
        Ok(())
    }

    pub(super) fn priority(&mut self, options: &Options) -> Result<(), ConnectionError> {
        self.priority += 1;
        let most = u64::from(options.max_inbound_priority_frames_per_stream);
        if self.priority > most.saturating_mul(1 + self.opened) {
            return Err(ConnectionError::flood(Flood::InboundPriority));
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, options: &Options) -> Result<(), ConnectionError> {
        self.window_updates += 1;
        let each = u64::from(options.max_inbound_window_update_frames_per_data_frame_sent);
        let most = each.saturating_mul(self.data_sent).saturating_add(self.opened);
        if self.window_updates > most.saturating_mul(2).saturating_add(5) {
            return Err(ConnectionError::flood(Flood::InboundWindowUpdate));
        }
        Ok(())
    }

    /// A stream was reset: by the peer, or by us because the peer made us.
    pub(super) fn reset(&mut self, now_ms: u64, options: &Options) -> Result<(), ConnectionError> {
        let Resets { tokens, filled_ms } = &mut self.resets;
        let passed = now_ms.saturating_sub(*filled_ms);
        let gained = passed.saturating_mul(options.stream_reset_rate.into());
        *tokens = tokens.saturating_add(gained).min(u64::from(options.stream_reset_burst) * 1000);
        *filled_ms = now_ms;
        match tokens.checked_sub(1000) {
            Some(left) => *tokens = left,
            None => return Err(ConnectionError::flood(Flood::Resets)),
        }
        Ok(())
    }
}
