//! What costs a peer nothing and us something, counted against Envoy's limits.

use super::error::{ConnectionError, Flood};
use super::options::Options;
use super::outbound::Outbound;

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Abuse {
    outbound: Outbound,
    /// Frames without content, one after the other.
    empty: u32,
    priority: u64,
    window_updates: u64,
    opened: u64,
    data_sent: u64,
    /// DATA frames that a window has cut short, less what was sent in longer ones.
    dribbles: u32,
    resets: Resets,
    /// Streams that were refused before the peer had acknowledged our SETTINGS.
    refused_early: u32,
}

/// A token bucket for resets.
#[derive(Debug)]
struct Resets {
    /// In thousandths.
    tokens: u64,
    filled_ms: u64,
}

/// A DATA frame is a dribble if the window leaves it less than this, though there is more to send.
const DRIBBLE_BYTES: usize = 64;
/// The most dribbles. One is forgiven for each KiB that is sent in longer frames.
const DRIBBLES_MAX: u32 = 1000;
const FORGIVEN_FOR: usize = 1024;
/// So many streams beyond the limit may be on their way before a client knows the limit. One that never
/// acknowledges our SETTINGS has no more of them than this.
const REFUSED_EARLY_MAX: u32 = 1000;

/// How a DATA frame ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cut {
    /// There was more to send than the windows allowed.
    ByWindow,
    /// It has all that there was to send, or is as long as a frame may be.
    No,
}

impl Abuse {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            outbound: Outbound::default(),
            empty: 0,
            priority: 0,
            window_updates: 0,
            opened: 0,
            data_sent: 0,
            dribbles: 0,
            resets: Resets { tokens: u64::from(options.stream_reset_burst) * 1000, filled_ms: 0 },
            refused_early: 0,
        }
    }

    /// A stream was opened.
    pub(super) const fn opened(&mut self) {
        self.opened += 1;
    }

    /// A frame was written.
    pub(super) const fn wrote(&mut self) {
        self.outbound.wrote();
    }

    /// A DATA frame was written.
    pub(super) fn wrote_data(&mut self, bytes: usize, cut: Cut) {
        self.wrote();
        self.data_sent += 1;
        if cut == Cut::ByWindow && bytes < DRIBBLE_BYTES {
            self.dribbles += 1;
        } else if self.dribbles > 0 {
            let forgiven = u32::try_from(bytes / FORGIVEN_FOR).unwrap_or(u32::MAX);
            self.dribbles = self.dribbles.saturating_sub(forgiven);
        }
    }

    /// An answer to a control frame was written.
    pub(super) const fn wrote_control(&mut self) {
        self.outbound.wrote_control();
    }

    /// So many bytes were sent; `left` were not.
    pub(super) const fn sent(&mut self, bytes: usize, left: usize) {
        self.outbound.sent(bytes, left);
    }

    /// How many frames wait to be sent, and how many of them answer control frames.
    pub(super) const fn outbound_frames(&self) -> (u32, u32) {
        (self.outbound.frames(), self.outbound.control_frames())
    }

    /// Whether too much waits to be sent, or is sent in too small pieces.
    pub(super) const fn check_outbound(&self, options: &Options) -> Result<(), ConnectionError> {
        if self.outbound.control_frames() > options.max_outbound_control_frames {
            return Err(ConnectionError::flood(Flood::OutboundControl));
        }
        if self.outbound.frames() > options.max_outbound_frames {
            return Err(ConnectionError::flood(Flood::Outbound));
        }
        // The windows that made it so were opened by such frames.
        if self.dribbles > DRIBBLES_MAX {
            return Err(ConnectionError::flood(Flood::InboundWindowUpdate));
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

    /// A stream was refused of a peer that has not acknowledged our SETTINGS; returns whether that is no
    /// reset yet.
    pub(super) const fn forgives_refusal(&mut self) -> bool {
        self.refused_early = self.refused_early.saturating_add(1);
        self.refused_early <= REFUSED_EARLY_MAX
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_allowed_at_the_configured_rate() {
        let options = Options { stream_reset_burst: 3, stream_reset_rate: 2, ..Options::default() };
        let mut abuse = Abuse::new(&options);
        for _ in 0..3 {
            assert_eq!(abuse.reset(1000, &options), Ok(()));
        }
        assert!(abuse.reset(1499, &options).is_err(), "half a second has not passed");
        assert_eq!(abuse.reset(1500, &options), Ok(()));
        for _ in 0..3 {
            assert_eq!(abuse.reset(1_000_000, &options), Ok(()));
        }
        assert!(abuse.reset(1_000_000, &options).is_err(), "no more are saved than the burst");
    }

    #[test]
    fn dribbles_are_forgiven_for_what_is_sent_properly() {
        let options = Options::default();
        let mut abuse = Abuse::new(&options);
        for _ in 0..DRIBBLES_MAX {
            abuse.wrote_data(1, Cut::ByWindow);
            abuse.wrote_data(5, Cut::No);
            abuse.wrote_data(64, Cut::ByWindow);
            abuse.sent(100, 0);
        }
        assert_eq!(abuse.check_outbound(&options), Ok(()));
        abuse.wrote_data(2048, Cut::ByWindow);
        for _ in 0..3 {
            assert_eq!(abuse.check_outbound(&options), Ok(()));
            abuse.wrote_data(1, Cut::ByWindow);
        }
        let flood = ConnectionError::flood(Flood::InboundWindowUpdate);
        assert_eq!(abuse.check_outbound(&options), Err(flood));
    }
}
