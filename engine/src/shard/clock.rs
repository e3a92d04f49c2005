//! The only place of a shard that asks for the time.
//!
//! Reading the clock costs some 25 ns, and a request would do it a dozen times. So the time is
//! read once each time a task of the shard is resumed, and stands still until the next.
//!
//! Invariant: whoever resumes a task calls [`Clock::refresh`] first.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime};

/// Milliseconds since the process began to count; monotonic.
pub type Millis = u64;

/// Reads the clocks and keeps the `date` header of the current second.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    now: Cell<Millis>,
    date_half_second: Cell<u64>,
    date: RefCell<[u8; DATE_LEN]>,
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_LEN: usize = 29;

impl Clock {
    /// A clock that counts from `epoch`, the same for all shards.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        let clock = Self {
            epoch,
            now: Cell::new(0),
            date_half_second: Cell::new(u64::MAX),
            date: RefCell::new([b' '; DATE_LEN]),
        };
        clock.refresh();
        clock
    }

    /// When the shard's work was last woken, in milliseconds; never goes back.
    #[must_use]
    pub const fn now(&self) -> Millis {
        self.now.get()
    }

    /// Reads the clock, after a wait.
    pub fn refresh(&self) -> Millis {
        let since = self.epoch.elapsed();
        let now = since.as_secs() * 1000 + Millis::from(since.subsec_millis());
        self.now.set(now);
        now
    }

    /// The value of the `date` header, IMF-fixdate, written anew once a second at the most.
    #[must_use]
    pub fn date(&self, now: Millis) -> [u8; DATE_LEN] {
        // Half seconds, as Envoy: the header is never older than that.
        let half_second = now / 500;
        if self.date_half_second.get() != half_second {
            let text = httpdate::fmt_http_date(SystemTime::now());
            if let Ok(bytes) = text.as_bytes().try_into() {
                *self.date.borrow_mut() = bytes;
                self.date_half_second.set(half_second);
            }
        }
        *self.date.borrow()
    }
}
