//! How many frames wait to be sent.
//!
//! What is known is how many bytes have left, not where in them a frame ends. So the frames are counted in
//! two batches: those that waited when the last batch had left, and those written since. Invariant: no frame
//! that waits is left out, and none is counted longer than until all that waited when it was written, and
//! all that was written until then, has left.

/// The frames that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outbound {
    older: Batch,
    /// Bytes of the older batch that have not left.
    older_bytes: usize,
    newer: Batch,
}

#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    frames: u32,
    /// Those of them that answer control frames.
    control: u32,
}

impl Outbound {
    pub(super) const fn wrote(&mut self) {
        self.newer.frames = self.newer.frames.saturating_add(1);
    }

    pub(super) const fn wrote_control(&mut self) {
        self.wrote();
        self.newer.control = self.newer.control.saturating_add(1);
    }

    /// So many bytes have left; `left` still wait.
    pub(super) const fn sent(&mut self, bytes: usize, left: usize) {
        if let Some(older_bytes) = self.older_bytes.checked_sub(bytes)
            && older_bytes > 0
        {
            self.older_bytes = older_bytes;
            return;
        }
        let none = Batch { frames: 0, control: 0 };
        self.older = if left > 0 { self.newer } else { none };
        self.older_bytes = left;
        self.newer = none;
    }

    pub(super) const fn frames(&self) -> u32 {
        self.older.frames.saturating_add(self.newer.frames)
    }

    pub(super) const fn control_frames(&self) -> u32 {
        self.older.control.saturating_add(self.newer.control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(outbound: &Outbound) -> (u32, u32) {
        (outbound.frames(), outbound.control_frames())
    }

    #[test]
    fn a_peer_that_reads_everything_has_nothing_waiting() {
        let mut outbound = Outbound::default();
        outbound.wrote();
        outbound.wrote_control();
        assert_eq!(counts(&outbound), (2, 1));
        outbound.sent(100, 0);
        assert_eq!(counts(&outbound), (0, 0));
    }

    #[test]
    fn a_peer_that_reads_nothing_has_everything_waiting() {
        let mut outbound = Outbound::default();
        for n in 1..=1000 {
            outbound.wrote_control();
            outbound.sent(0, n as usize * 17);
            assert_eq!(counts(&outbound), (n, n));
        }
    }

    #[test]
    fn a_peer_that_reads_slowly_but_steadily_is_never_suspected() {
        let mut outbound = Outbound::default();
        for _ in 0..100 {
            outbound.wrote();
        }
        let mut waiting = 100 * 1000;
        for _ in 0..100_000 {
            outbound.sent(1000, waiting - 1000);
            outbound.wrote();
            assert!((100..=202).contains(&outbound.frames()), "{outbound:?}");
            waiting = waiting - 1000 + 1000;
        }
    }
}
