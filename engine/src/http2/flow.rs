//! Flow control: what each side may still send (RFC 9113 §5.2, §6.9).

use super::error::{ConnectionError, ErrorCode};

/// The largest window (§6.9.1).
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The window before anything is settled.
pub(super) const WINDOW_DEFAULT: u32 = 65_535;

/// What the peer may send, on a stream or on the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveWindow {
    /// How large it is when everything was read.
    size: u32,
    /// What the peer may send now.
    left: u32,
    /// Received and not read.
    unread: u32,
    /// Read, and not given back with WINDOW_UPDATE yet.
    read: u32,
}

/// More was received than the window allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Exceeded;

impl ReceiveWindow {
    pub(super) const fn new(size: u32) -> Self {
        Self { size, left: size, unread: 0, read: 0 }
    }

    /// Takes what has arrived.
    pub(super) const fn take(&mut self, bytes: u32) -> Result<(), Exceeded> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(Exceeded),
        }
        self.unread += bytes;
        Ok(())
    }

    /// What was received and not read.
    pub(super) const fn unread(&self) -> u32 {
        self.unread
    }

    /// Notes what was read; returns what to give back with WINDOW_UPDATE. As in nghttp2, and so Envoy, that
    /// is when it is half of the window.
    pub(super) fn read(&mut self, bytes: u32) -> Option<u32> {
        // Nobody can read what was not received.
        let bytes = bytes.min(self.unread);
        self.unread -= bytes;
        self.read += bytes;
        if self.read == 0 || self.read < self.size / 2 {
            return None;
        }
        self.left += self.read;
        Some(std::mem::take(&mut self.read))
    }

    /// The window that all streams share begins with the default, whatever its size.
    pub(super) const fn growth(&self) -> Option<u32> {
        match self.size.checked_sub(WINDOW_DEFAULT) {
            None | Some(0) => None,
            growth => growth,
        }
    }
}

/// What we may send.
///
/// A stream's window is the initial one of the peer's SETTINGS plus this: so a change of the initial window
/// applies to all streams (§6.9.2) without touching them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendWindow {
    /// What the peer has added, less what was sent.
    change: i64,
}

impl SendWindow {
    /// What may be sent now; negative after the peer has reduced its initial window.
    pub(super) const fn left(self, initial: u32) -> i64 {
        initial as i64 + self.change
    }

    /// Notes what was sent.
    pub(super) const fn sent(&mut self, bytes: i64) {
        self.change -= bytes;
    }

    /// Adds a WINDOW_UPDATE.
    pub(super) const fn open(&mut self, bytes: u32, initial: u32) -> Result<(), Exceeded> {
        self.change += bytes as i64;
        if self.left(initial) > WINDOW_MAX { Err(Exceeded) } else { Ok(()) }
    }

    /// How far it is above the initial window.
    pub(super) const fn change(self) -> i64 {
        self.change
    }
}

/// A window above 2^31 - 1.
pub(super) const fn overflow(what: &'static str) -> ConnectionError {
    ConnectionError::frame(ErrorCode::FlowControlError, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_is_given_back_at_once() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.take(100), Ok(()));
        assert_eq!(window.take(1), Err(Exceeded));
        assert_eq!((window.read(49), window.unread()), (None, 51));
        assert_eq!((window.read(1), window.unread()), (Some(50), 50));
        assert_eq!(window.take(50), Ok(()));
        assert_eq!(window.take(1), Err(Exceeded));
        assert_eq!((window.read(1000), window.unread()), (Some(100), 0));
    }

    #[test]
    fn only_a_window_above_the_default_has_to_grow() {
        assert_eq!(ReceiveWindow::new(WINDOW_DEFAULT).growth(), None);
        assert_eq!(ReceiveWindow::new(200_000).growth(), Some(134_465));
    }

    #[test]
    fn a_window_may_become_negative_and_never_too_large() {
        let mut window = SendWindow::default();
        window.sent(60_000);
        assert_eq!(window.left(WINDOW_DEFAULT), 5535);
        assert_eq!(window.left(0), -60_000);
        assert_eq!(window.open(60_001, 0), Ok(()));
        assert_eq!(window.left(0), 1);
        let most = u32::try_from(WINDOW_MAX).unwrap();
        assert_eq!(window.open(most - 1, 0), Ok(()));
        assert_eq!(window.open(1, 0), Err(Exceeded));
    }
}
