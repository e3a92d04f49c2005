//! The clock of a shard; nothing else on it reads the time.
//!
//! Reading the clock costs some 25 ns, and a request would do it a dozen times. So the time is
//! read once each time a task of the shard is resumed and cached until the next.
//!
//! Invariant: [`Clock::refresh`] is called before a task is resumed.
#![expect(unsafe_code, reason = "the clock is read as cheaply as possible, twice per request")]

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use crate::http::{FieldName, Line};

/// Milliseconds since the epoch of the process; monotonic.
pub type Millis = u64;

/// A duration in milliseconds, rounded down.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    let whole = duration.as_secs().saturating_mul(1000);
    whole.saturating_add(duration.subsec_millis().into())
}

/// Reads and caches the time, and the `date` header.
#[derive(Debug)]
pub struct Clock {
    /// The monotonic clock of the kernel at the epoch.
    epoch_ns: u64,
    now: Cell<Millis>,
    date_half_second: Cell<u64>,
    date: Cell<DateLine>,
    /// How much time a test has let pass.
    #[cfg(test)]
    passed: Cell<Millis>,
}

/// The `date` header line in a head.
pub type DateLine = Line<[u8; DATE_AT + DATE_LEN]>;

/// `\r\ndate: `
const DATE_AT: usize = 8;

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_LEN: usize = 29;

impl Clock {
    /// A clock that counts from `epoch`, which is the same for all shards.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        let since = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let clock = Self {
            epoch_ns: monotonic_ns().saturating_sub(since),
            now: Cell::new(0),
            date_half_second: Cell::new(u64::MAX),
            date: Cell::new(date_line([b' '; DATE_LEN])),
            #[cfg(test)]
            passed: Cell::new(0),
        };
        clock.refresh();
        clock
    }

    /// The time at which the running task was resumed, in milliseconds.
    #[must_use]
    pub const fn now(&self) -> Millis {
        self.now.get()
    }

    /// Reads the clock, and returns the time.
    pub fn refresh(&self) -> Millis {
        let now = monotonic_ns().saturating_sub(self.epoch_ns) / 1_000_000;
        #[cfg(test)]
        let now = now + self.passed.get();
        self.now.set(now);
        now
    }

    /// Lets this much time pass.
    #[cfg(test)]
    pub(super) fn pass(&self, time: Millis) {
        self.passed.set(self.passed.get() + time);
    }

    /// The `date` header, IMF-fixdate, formatted at most twice per second.
    #[must_use]
    pub fn date(&self, now: Millis) -> DateLine {
        // Half seconds, as in Envoy: the header is never older than that.
        let half_second = now / 500;
        if self.date_half_second.get() != half_second {
            let text = httpdate::fmt_http_date(SystemTime::now());
            if let Ok(bytes) = text.as_bytes().try_into() {
                self.date.set(date_line(bytes));
                self.date_half_second.set(half_second);
            }
        }
        self.date.get()
    }
}

/// The monotonic clock. `Instant` reads the same one, with checked arithmetic on top.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(result, 0, "every Linux has this clock");
    let libc::timespec { tv_sec, tv_nsec } = time;
    tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(tv_nsec.cast_unsigned())
}

/// A `date` header line.
#[must_use]
pub fn date_line(date: [u8; DATE_LEN]) -> DateLine {
    let mut line = *b"\r\ndate:                              ";
    if let Some(value) = line.last_chunk_mut() {
        *value = date;
    }
    Line::of_bytes(FieldName::Date, line)
}
